"""Makes `dictionary.bin` of IPADIC's sources: surfaces, costs and readings in the order in which they are searched.

    build.py FOLDER      the folder of IPADIC 2.7.0's CSV and DEF files, in EUC-JP

Layout, little-endian, each part at a multiple of four bytes:

    magic        8 bytes, "kana-01\\n"
    counts       5 u32: classes, surfaces, UTF-16 units of all surfaces, entries, bytes of all readings
    costs        i16 [classes, classes]: of a class (column) after a class (row)
    surfaces     u32 [surfaces]: end of each surface's units; u16 [units]; surfaces are sorted by their units
    entries      u32 [surfaces]: end of each surface's entries; u16 [entries] classes; i16 [entries] costs
    readings     u32 [entries]: end of each entry's bytes; u8 [bytes]: hiragana, as the distance from U+3040

The reading of a surface without kanji is empty: it is read as it is written.
"""

import csv
import sys
from array import array
from pathlib import Path

FIRST = 0x3040
# Readings that everyday texts mean far more often than IPADIC's costs say.
PREFERRED = {"夜中": "ヨナカ", "値": "アタイ", "他": "ホカ", "行": "ギョウ", "空": "カラ", "大文字": "オオモジ", "小文字": "コモジ", "手札": "テフダ", "入り口": "イリグチ", "各行": "カクギョウ", "間": "アイダ"}
PREFERENCE = 3000
# Counts and places that are not read as their parts are: class 名詞,一般.
COUNTS_CLASS, COUNTS_COST = 1285, -5000
COUNTS = {
    **{"一人": "ヒトリ", "二人": "フタリ", "一人一人": "ヒトリヒトリ", "四人": "ヨニン", "何人": "ナンニン"},
    **{"二日": "フツカ", "三日": "ミッカ", "四日": "ヨッカ", "五日": "イツカ", "六日": "ムイカ", "七日": "ナノカ", "八日": "ヨウカ", "九日": "ココノカ"},
    **{"十日": "トオカ", "二十日": "ハツカ", "十四日": "ジュウヨッカ", "二十四日": "ニジュウヨッカ", "四時": "ヨジ", "七時": "シチジ", "九時": "クジ"},
    **{"四月": "シガツ", "七月": "シチガツ", "九月": "クガツ", "四年": "ヨネン", "九年": "クネン", "一つ一つ": "ヒトツヒトツ"},
    **{"三百": "サンビャク", "六百": "ロッピャク", "八百": "ハッピャク", "三千": "サンゼン", "八千": "ハッセン"},
    **{"右上": "ミギウエ", "左上": "ヒダリウエ", "右下": "ミギシタ", "左下": "ヒダリシタ", "案内人": "アンナイニン", "管理人": "カンリニン"},
    **{"十分間": "ジュップンカン", "何分": "ナンプン", "何本": "ナンボン", "何匹": "ナンビキ", "何杯": "ナンバイ", "何百": "ナンビャク", "何千": "ナンゼン"},
}
# Counters by the sound that 一, 三, 六, 八 and 十 give them.
DOUBLED = {"イッ": "一", "ロッ": "六", "ハッ": "八", "ジュッ": "十"}
COUNTERS = {"分": ("プン", "サンプン"), "本": ("ポン", "サンボン"), "匹": ("ピキ", "サンビキ"), "杯": ("パイ", "サンバイ"), "泊": ("パク", "サンパク")}
COUNTERS |= {"回": ("カイ", ""), "階": ("カイ", "サンガイ"), "個": ("コ", ""), "か月": ("カゲツ", ""), "ヶ月": ("カゲツ", ""), "か所": ("カショ", "")}
PLAIN_AFTER_SIX = {"歳": "サイ", "才": "サイ", "冊": "サツ", "週間": "シュウカン", "頭": "トウ", "着": "チャク", "通": "ツウ", "世紀": "セイキ", "章": "ショウ"}


def counts() -> dict[str, str]:
    known = dict(COUNTS)
    for counter, (doubled, third) in COUNTERS.items():
        known |= {number + counter: sound + doubled for sound, number in DOUBLED.items()}
        known |= {"三" + counter: third} if third else {}
    for counter, sound in PLAIN_AFTER_SIX.items():
        known |= {number + counter: before + sound for before, number in DOUBLED.items() if number != "六"}
    # Enough, unless a number stands before it.
    del known["十分"]
    for tens in "二三四五":
        known[tens + "十分"] = {"二": "ニ", "三": "サン", "四": "ヨン", "五": "ゴ"}[tens] + "ジュップン"
    return known


def reading_of(surface: str, katakana: str) -> bytes:
    if not any(ord(letter) >= 0x3400 or letter == "々" for letter in surface):
        return b""
    hiragana = [ord(letter) - 0x60 if "ァ" <= letter <= "ヶ" else ord(letter) for letter in katakana]
    if not all(FIRST < letter < FIRST + 192 for letter in hiragana):
        return b""
    return bytes(letter - FIRST for letter in hiragana)


def main() -> None:
    folder = Path(sys.argv[1])
    entries: dict[str, dict[int, tuple[int, bytes]]] = {}
    for path in sorted(folder.glob("*.csv")):
        for surface, left, right, cost, *features in csv.reader(path.read_text("euc_jp").splitlines()):
            assert left == right, surface
            reading = reading_of(surface, features[7] if len(features) > 7 else "")
            cost = int(cost)
            if PREFERRED.get(surface) == features[7]:
                cost -= PREFERENCE
            known = entries.setdefault(surface, {})
            # Of entries of one class, only the cheapest is ever chosen.
            if int(left) not in known or cost < known[int(left)][0]:
                known[int(left)] = (cost, reading)
    for surface, katakana in counts().items():
        entries.setdefault(surface, {})[COUNTS_CLASS] = (COUNTS_COST, reading_of(surface, katakana))
    lines = (folder / "matrix.def").read_text("euc_jp").splitlines()
    classes = int(lines[0].split()[0])
    matrix = array("h", bytes(2 * classes * classes))
    for line in lines[1:]:
        right, left, cost = map(int, line.split())
        matrix[right * classes + left] = cost

    units, surface_ends, entry_ends = array("H"), array("I"), array("I")
    entry_classes, entry_costs, reading_ends, readings = array("H"), array("h"), array("I"), bytearray()
    order = sorted((array("H", surface.encode("utf-16-le")).tolist(), surface) for surface in entries)
    for codes, surface in order:
        units.extend(codes)
        surface_ends.append(len(units))
        for number, (cost, reading) in sorted(entries[surface].items()):
            entry_classes.append(number)
            entry_costs.append(cost)
            readings += reading
            reading_ends.append(len(readings))
        entry_ends.append(len(entry_classes))
    sizes = array("I", [classes, len(order), len(units), len(entry_classes), len(readings)])
    parts = [sizes, matrix, surface_ends, units, entry_ends, entry_classes, entry_costs, reading_ends, readings]
    whole = bytearray(b"kana-01\n")
    for part in parts:
        whole += bytes(part)
        whole += bytes(-len(whole) % 4)
    (Path(__file__).parent / "dictionary.bin").write_bytes(whole)


if __name__ == "__main__":
    main()
