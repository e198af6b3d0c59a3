"""Reads the figures with Prometheus' own parser and holds their names and types to its rules.

    python figures.py http://127.0.0.1:8000/metrics
"""

import re
import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

text = urllib.request.urlopen(sys.argv[1]).read().decode()
types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
helps = set(re.findall(r"^# HELP (\S+) ", text, re.M))
for family in text_string_to_metric_families(text):
    name = family.name
    assert name in types and name in helps, f"{name} lacks a type or a description"
    assert re.fullmatch(r"sottovoce_[a-z_]+", family.name), name
    assert family.type in ("counter", "gauge", "histogram"), (name, family.type)
    if family.type == "histogram":
        buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
        assert buckets and all("le" in sample.labels for sample in buckets), name
    print(f"{family.type:9} {name}: {len(family.samples)} samples, {family.documentation}")
assert "sottovoce_queue_length" in types, "the autoscaler reads it"
