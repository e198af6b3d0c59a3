//! What the pickle reader accepts, refuses and never does.

use proptest::prelude::*;
use sottovoce_formats::pickle::{
    self, Disposition, Globals, MemoUse, Node, Parser, PickleErrorKind, PickleLimits,
    PickleListener, PickleStep, PickleWriter, Value, ValueRef,
};
use std::sync::Arc;

fn inert() -> PickleLimits {
    PickleLimits {
        globals: Globals::Inert,
        ..PickleLimits::default()
    }
}

/// `os.system('true')` as protocol 0 and as protocol 4.
const CODE: [&[u8]; 2] = [
    b"cos\nsystem\n(S'true'\ntR.",
    b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
];

#[test]
fn code_is_refused_by_default_and_named() {
    for file in CODE {
        let error = pickle::read(file, &PickleLimits::default()).unwrap_err();
        assert!(
            matches!(&error.kind, PickleErrorKind::GlobalRefused(name) if name == "os.system"),
            "{error}"
        );
    }
}

#[test]
fn code_can_be_read_as_inert_values() {
    for file in CODE {
        let document = pickle::read(file, &inert()).unwrap();
        let call = document.root().call().expect("a call");
        assert_eq!(
            document.root().at(call.callable).global(),
            Some(("os", "system"))
        );
        let mut arguments = document.root().at(call.arguments).items().unwrap();
        assert_eq!(arguments.next().and_then(ValueRef::text), Some("true"));
    }
}

#[test]
fn an_ordered_dictionary_keeps_its_entries_and_persistent_ids_their_value() {
    // OrderedDict([('w', <persistent id ('storage', 3)>)]) as written by torch.save.
    let file = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wq\x02\
        (X\x07\x00\x00\x00storageq\x03K\x03tq\x04Qs.";
    let document = pickle::read(&file[..], &inert()).unwrap();
    let id = document.root().entry("w").unwrap().persistent_id().unwrap();
    let parts: Vec<_> = id.items().unwrap().collect();
    assert_eq!(parts[0].text(), Some("storage"));
    assert_eq!(parts[1].integer(), Some(3));
    assert!(pickle::read(&file[..], &PickleLimits::default()).is_err());
}

#[test]
fn integers_of_every_width_are_exact() {
    let rows: [(&[u8], Option<i64>, Option<u64>); 9] = [
        (b"K\xff.", Some(255), Some(255)),
        (b"M\x00\x80.", Some(32768), Some(32768)),
        (b"J\xff\xff\xff\xff.", Some(-1), None),
        (b"\x8a\x00.", Some(0), Some(0)),
        (b"\x8a\x01\x80.", Some(-128), None),
        (
            b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.",
            None,
            Some(1 << 63),
        ),
        (b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x01.", None, None),
        (b"L123L\n.", Some(123), Some(123)),
        (b"I01\n.", Some(1), Some(1)),
    ];
    for (file, signed, unsigned) in rows {
        let document = pickle::read(file, &PickleLimits::default()).unwrap();
        assert_eq!(document.root().integer(), signed, "{file:?}");
        assert_eq!(document.root().unsigned(), unsigned, "{file:?}");
    }
}

#[test]
fn errors_of_malformed_pickles_name_the_problem_and_its_offset() {
    let rows: [(&[u8], &str); 16] = [
        (b"", "the file is truncated (byte 0)"),
        (b"\x80\x04K", "the file is truncated (byte 3)"),
        (
            b"\x80\x09.",
            "protocol 9 is unknown, 5 is the newest (byte 0)",
        ),
        (b"\xff", "0xff is not an opcode (byte 0)"),
        (b"].", ""),
        (b"N]", "the file is truncated (byte 2)"),
        (b".", "an opcode takes more than the stack holds (byte 1)"),
        (b"a", "an opcode takes more than the stack holds (byte 0)"),
        (b"(a", "an opcode takes more than the stack holds (byte 1)"),
        (b"NNa", "an opcode needs a list to append to (byte 2)"),
        (b"e", "an opcode needs a mark that is not there (byte 0)"),
        (b"}(Nu", "an opcode needs a value for each key (byte 3)"),
        (b"h\x07", "memo entry 7 is empty (byte 0)"),
        (b"\x8b\xff\xff\xff\x7f", "malformed integer length (byte 0)"),
        (b"Inine\n", "malformed number (byte 0)"),
        (b"S'open\n", "malformed string (byte 0)"),
    ];
    for (file, expected) in rows {
        match pickle::read(file, &PickleLimits::default()) {
            Ok(_) => assert_eq!(expected, "", "{file:?} was read"),
            Err(error) => assert_eq!(error.to_string(), format!("pickle: {expected}")),
        }
    }
}

#[test]
fn a_claimed_length_allocates_nothing() {
    // 2^62 bytes, 2 GiB and 4 GiB are claimed; none are present.
    let rows: [&[u8]; 4] = [
        b"\x8e\x00\x00\x00\x00\x00\x00\x00\x40",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"X\x00\x00\x00\x70",
    ];
    for file in rows {
        let error = pickle::read(file, &PickleLimits::default()).unwrap_err();
        assert!(
            matches!(
                error.kind,
                PickleErrorKind::MemoryLimit { .. } | PickleErrorKind::Truncated
            ),
            "{error}"
        );
    }
}

#[test]
fn memory_stays_within_the_limit() {
    let limits = PickleLimits {
        memory_bytes: 1 << 20,
        ..PickleLimits::default()
    };
    let mut rows = Vec::new();
    for opcode in [
        &b"("[..],
        b"]",
        b"N",
        b"]\x94",
        b"K\x01\x94",
        b"N2",
        b"}",
        b")",
    ] {
        rows.push(opcode.repeat(1 << 20));
    }
    // Memo entries far apart, and a growing list.
    rows.push((0..100_000_u32).fold(b"N".to_vec(), |mut file, index| {
        file.push(b'r');
        file.extend((index * 7 + 1).to_le_bytes());
        file
    }));
    rows.push([b"]", &b"Na".repeat(1 << 20)[..]].concat());
    for file in rows {
        let error = pickle::read(&file[..], &limits).unwrap_err();
        assert!(
            matches!(error.kind, PickleErrorKind::MemoryLimit { .. }),
            "{error} for {:?}…",
            &file[..4]
        );
    }
}

#[test]
fn deep_nesting_and_repeated_sharing_need_no_stack_and_no_copies() {
    let depth = 100_000;
    let deep = [&b"]".repeat(depth)[..], &b"a".repeat(depth - 1), b"."].concat();
    let document = pickle::read(&deep[..], &PickleLimits::default()).unwrap();
    assert_eq!(document.root().items().unwrap().len(), 1);
    drop(document);
    // Each list holds the previous one twice: 2^60 items if anything copied.
    let mut doubling = b"]\x94".to_vec();
    for level in 0..60_u8 {
        doubling.extend([b']', 0x94, b'(', b'h', level, b'h', level, b'e']);
    }
    doubling.push(b'.');
    let document = pickle::read(&doubling[..], &PickleLimits::default()).unwrap();
    assert_eq!(document.root().items().unwrap().len(), 2);
}

#[test]
fn a_list_may_contain_itself() {
    let document = pickle::read(&b"]\x94h\x00a."[..], &PickleLimits::default()).unwrap();
    let inner = document.root().items().unwrap().next().unwrap();
    assert_eq!(inner.value(), document.root().value());
}

struct Sum {
    total: i64,
    paths: Vec<String>,
}

impl PickleListener for &mut Sum {
    fn item(&mut self, path: &[PickleStep<'_>], item: ValueRef<'_>) -> Result<Disposition, String> {
        self.paths.push(format!("{path:?}"));
        self.total += item.entry("n").and_then(ValueRef::integer).ok_or("no n")?;
        Ok(Disposition::HandOver)
    }
}

#[test]
fn a_listener_sees_items_in_order_and_frees_them() {
    let mut file = Vec::new();
    let mut writer = PickleWriter::new(&mut file).unwrap();
    writer.begin_dictionary().unwrap();
    writer.text("first").unwrap();
    writer.unsigned(1 << 63).unwrap();
    writer.text("events").unwrap();
    writer.begin_list().unwrap();
    for n in 0..50_000 {
        writer.begin_dictionary().unwrap();
        writer.text("n").unwrap();
        writer.integer(n).unwrap();
        writer.end().unwrap();
    }
    writer.end().unwrap();
    writer.end().unwrap();
    writer.finish().unwrap();
    let mut sum = Sum {
        total: 0,
        paths: Vec::new(),
    };
    // All 50,000 dictionaries at once would need more than twice this.
    let limits = PickleLimits {
        memory_bytes: 1 << 20,
        ..PickleLimits::default()
    };
    let uses = MemoUse::scan(&file[..]).map(Arc::new);
    let document = Parser::new(&file[..], &limits, &mut sum, uses)
        .finish()
        .unwrap();
    assert_eq!(sum.total, 50_000 * 49_999 / 2);
    sum.paths.dedup();
    assert_eq!(sum.paths, [r#"[Key("events")]"#]);
    assert_eq!(
        document.root().entry("first").unwrap().unsigned(),
        Some(1 << 63)
    );
    assert_eq!(
        document
            .root()
            .entry("events")
            .unwrap()
            .items()
            .unwrap()
            .len(),
        0
    );
}

#[test]
fn a_dropped_item_survives_while_the_memo_refers_to_it() {
    // [{'n': 1}] under a listener, then the dictionary's memo entry, as the root or again as an
    // item.
    let later = b"\x80\x04]\x94(}\x94(\x8c\x01nK\x01ueh\x01.";
    let before = b"\x80\x04]\x94(}\x94(\x8c\x01nK\x01uh\x01e.";
    for (file, total, is_list) in [(&later[..], 1, false), (&before[..], 2, true)] {
        for uses in [None, MemoUse::scan(file).map(Arc::new)] {
            let mut sum = Sum {
                total: 0,
                paths: Vec::new(),
            };
            let document = Parser::new(file, &PickleLimits::default(), &mut sum, uses)
                .finish()
                .unwrap();
            assert_eq!(sum.total, total);
            let root = document.root();
            if is_list {
                assert_eq!(root.items().unwrap().len(), 0);
            } else {
                assert_eq!(root.entry("n").and_then(ValueRef::integer), Some(1));
            }
        }
    }
}

#[test]
fn memo_entries_may_be_numbered_out_of_order() {
    // ['a', 'b', 'a']: stored as 7 and 3.
    let file = b"(X\x01\0\0\0aq\x07X\x01\0\0\0bq\x03h\x07l.";
    assert!(MemoUse::scan(&file[..]).is_none());
    let document = pickle::read(&file[..], &PickleLimits::default()).unwrap();
    let texts: Vec<_> = document
        .root()
        .items()
        .unwrap()
        .filter_map(ValueRef::text)
        .collect();
    assert_eq!(texts, ["a", "b", "a"]);
}

#[test]
fn objects_shared_by_items_are_freed_after_the_last_use() {
    // Each item refers to the long text of the previous one.
    let item = |text_index: u32| {
        let mut item = b"}\x94(\x8c\x01n\x94K\x01\x8c\x01t\x94j".to_vec();
        item.extend(text_index.to_le_bytes());
        item.extend(b"\x8c\x01u\x94\x8c\xff");
        item.extend([b'x'; 255]);
        item.extend(b"\x94u");
        item
    };
    // The list, and a text that is dropped at once; then items in batches, as Python writes them.
    let mut file = b"\x80\x04]\x94\x8c\x01x\x940".to_vec();
    for index in 0..20_000_u32 {
        if index.is_multiple_of(100) {
            file.extend(if index == 0 { &b"("[..] } else { b"e(" });
        }
        file.extend(item(1 + 5 * index));
    }
    file.extend(b"e.");
    let limits = PickleLimits {
        memory_bytes: 256 << 10,
        ..PickleLimits::default()
    };
    let mut sum = Sum {
        total: 0,
        paths: Vec::new(),
    };
    let uses = MemoUse::scan(&file[..]).map(Arc::new);
    assert!(uses.is_some());
    Parser::new(&file[..], &limits, &mut sum, uses)
        .finish()
        .unwrap();
    assert_eq!(sum.total, 20_000);
    let refused = Parser::new(&file[..], &limits, &mut sum, None).finish();
    assert!(
        matches!(
            refused.unwrap_err().kind,
            PickleErrorKind::MemoryLimit { .. }
        ),
        "without knowing what is fetched, all is kept"
    );
}

#[test]
fn several_pickles_in_a_row_are_read_one_by_one() {
    let file = b"K\x01.\x80\x02K\x02.";
    let first = pickle::read(&file[..], &PickleLimits::default()).unwrap();
    assert_eq!(first.root().value(), Value::Integer(1));
    let rest = &file[first.encoded_bytes() as usize..];
    let second = pickle::read(rest, &PickleLimits::default()).unwrap();
    assert_eq!(second.root().value(), Value::Integer(2));
}

#[test]
fn strings_of_old_protocols_are_decoded() {
    let rows: [(&[u8], Node); 4] = [
        (b"S'a\\n\\x41\\''\n.", Node::Text("a\nA'".into())),
        (b"V\\u00e9\\U0001f600 \xe9\n.", Node::Text("é😀 é".into())),
        (b"U\x02\xff\xfe.", Node::Bytes([0xff, 0xfe].into())),
        (b"\x8c\x03a\xff\x62.", Node::Text("a\u{fffd}b".into())),
    ];
    for (file, expected) in rows {
        let document = pickle::read(file, &PickleLimits::default()).unwrap();
        assert_eq!(document.root().node(), Some(&expected));
    }
}

/// A value as plain text, to compare documents with different node ids.
fn plain_text(view: ValueRef<'_>) -> String {
    if let Some(items) = view.items() {
        let items: Vec<String> = items.map(plain_text).collect();
        return format!("[{}]", items.join(" "));
    }
    match view.entries() {
        Some(entries) => entries
            .map(|(key, value)| format!("{{{}: {}}}", plain_text(key), plain_text(value)))
            .collect(),
        None => format!("{:?} {:?}", view.text(), view.integer()),
    }
}

/// Keeps every item.
struct Keep;

impl PickleListener for Keep {
    fn item(&mut self, _: &[PickleStep<'_>], _: ValueRef<'_>) -> Result<Disposition, String> {
        Ok(Disposition::Keep)
    }
}

proptest! {
    #[test]
    fn a_document_is_the_same_with_and_without_memo_counts(
        steps in prop::collection::vec((0_u8..6, any::<u8>()), 0..200)
    ) {
        // A list to which texts, numbers, lists, and stored objects are appended.
        let mut file = b"\x80\x04]\x94".to_vec();
        let mut stored = 1;
        for (kind, number) in steps {
            match kind {
                0 => file.extend([b'K', number, b'a']),
                1 => {
                    file.extend([0x8c, 1, b'a' + number % 26, 0x94, b'a']);
                    stored += 1;
                }
                2 => {
                    file.extend([b']', 0x94, b'K', number, b'a', b'a']);
                    stored += 1;
                }
                // Stored and dropped at once.
                3 => {
                    file.extend([b']', 0x94, b'0']);
                    stored += 1;
                }
                _ if stored > 1 => {
                    // Not the first one, which would contain itself.
                    file.extend([b'h', 1 + number % (stored - 1).min(255) as u8, b'a']);
                }
                _ => {}
            }
        }
        file.push(b'.');
        let plain = pickle::read(&file[..], &PickleLimits::default()).unwrap();
        let uses = MemoUse::scan(&file[..]).map(Arc::new);
        prop_assert!(uses.is_some());
        let knowing = Parser::new(&file[..], &PickleLimits::default(), Keep, uses).finish().unwrap();
        prop_assert_eq!(plain_text(plain.root()), plain_text(knowing.root()));
    }
}

/// `[np.int64(-5), np.uint64(2**64 - 1), np.float32(1.5), np.float16(0.25), np.bool_(True)]`, and a
/// big-endian `i4` of 258, in protocol 4.
const NUMPY: &[u8] = b"\x80\x04]\x94(\x8c\x15numpy.core.multiarray\x94\x8c\x06scalar\x94\x93\x94\
    \x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02i8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\
    \xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bC\x08\xfb\xff\xff\xff\xff\xff\xff\xff\x94\x86\x94R\x94\
    h\x03h\x06\x8c\x02u8\x94\x89\x88\x87\x94R\x94C\x08\xff\xff\xff\xff\xff\xff\xff\xff\x94\x86\x94R\x94\
    h\x03h\x06\x8c\x02f4\x94\x89\x88\x87\x94R\x94C\x04\x00\x00\xc0?\x94\x86\x94R\x94\
    h\x03h\x06\x8c\x02f2\x94\x89\x88\x87\x94R\x94C\x02\x004\x94\x86\x94R\x94\
    h\x03h\x06\x8c\x02b1\x94\x89\x88\x87\x94R\x94C\x01\x01\x94\x86\x94R\x94\
    h\x03h\x06\x8c\x02i4\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01>\x94NNNJ\
    \xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bC\x04\x00\x00\x01\x02\x94\x86\x94R\x94e.";

/// `np.int64(-5)` in protocol 2, where bytes are text.
const OLD_NUMPY: &[u8] = b"\x80\x02cnumpy.core.multiarray\nscalar\nq\x00cnumpy\ndtype\nq\x01X\x02\x00\x00\
    \x00i8q\x02\x89\x88\x87q\x03Rq\x04(K\x03X\x01\x00\x00\x00<q\x05NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff\
    K\x00tq\x06bc_codecs\nencode\nq\x07X\x10\x00\x00\x00\xc3\xbb\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf\xc3\
    \xbf\xc3\xbfq\x08X\x06\x00\x00\x00latin1q\x09\x86q\x0aRq\x0b\x86q\x0cRq\x0d.";

fn numbers() -> PickleLimits {
    PickleLimits {
        globals: Globals::Numbers,
        ..PickleLimits::default()
    }
}

#[test]
fn numbers_of_numpy_are_read_as_numbers() {
    let document = pickle::read(NUMPY, &numbers()).unwrap();
    let items: Vec<ValueRef<'_>> = document.root().items().unwrap().collect();
    assert_eq!(items.len(), 6);
    assert_eq!(items[0].integer(), Some(-5));
    assert_eq!(items[1].unsigned(), Some(u64::MAX));
    assert_eq!(items[2].float(), Some(1.5));
    assert_eq!(items[3].float(), Some(0.25));
    assert_eq!(items[4].boolean(), Some(true));
    assert_eq!(items[5].integer(), Some(258));
    let old = pickle::read(OLD_NUMPY, &numbers()).unwrap();
    assert_eq!(old.root().integer(), Some(-5));
    // The second version of numpy has another name for it.
    let place = OLD_NUMPY
        .windows(5)
        .position(|bytes| bytes == b".core")
        .unwrap();
    let newer = [&OLD_NUMPY[..place], b"._core", &OLD_NUMPY[place + 5..]].concat();
    assert_eq!(
        pickle::read(&newer[..], &numbers())
            .unwrap()
            .root()
            .integer(),
        Some(-5)
    );
    assert!(pickle::read(OLD_NUMPY, &PickleLimits::default()).is_err());
}

#[test]
fn nothing_but_numbers_comes_of_the_names_that_numbers_need() {
    for file in CODE {
        let error = pickle::read(file, &numbers()).unwrap_err();
        assert!(
            matches!(&error.kind, PickleErrorKind::GlobalRefused(name) if name == "os.system"),
            "{error}"
        );
    }
    let replaced = |from: &[u8], to: &[u8]| {
        let place = (OLD_NUMPY.windows(from.len())).position(|bytes| bytes == from);
        let place = place.unwrap();
        let file = [&OLD_NUMPY[..place], to, &OLD_NUMPY[place + from.len()..]].concat();
        pickle::read(&file[..], &numbers()).err()
    };
    for (from, to) in [
        // A date, objects, a number longer than its bytes, another encoding, and another function.
        (&b"i8"[..], &b"M8"[..]),
        (b"i8", b"O8"),
        (b"i8", b"i4"),
        (b"latin1", b"base64"),
        (b"multiarray\nscalar", b"multiarray\n_recon"),
        (b"_codecs\nencode", b"_codecs\ndecode"),
        (b"numpy\ndtype", b"numpy\nload"),
    ] {
        let error = replaced(from, to).expect("it is refused");
        assert!(
            matches!(error.kind, PickleErrorKind::GlobalRefused(_)),
            "{error}"
        );
    }
}
