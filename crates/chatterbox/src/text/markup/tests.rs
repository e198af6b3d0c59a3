use super::*;

/// Paragraphs as text, pauses as seconds in braces, and the number of warnings.
fn read(text: &str) -> (String, usize) {
    let tags = ["laugh".to_owned()];
    let mut warnings = Warnings::new(text);
    let shown: Vec<String> = elements(text, &tags, false, &mut warnings)
        .into_iter()
        .map(|element| match element {
            Element::Paragraph(text) => {
                text.text().split_whitespace().collect::<Vec<_>>().join(" ")
            }
            Element::Pause { seconds, .. } => format!("{{{seconds}}}"),
        })
        .collect();
    (shown.join(" | "), warnings.finish().len())
}

#[test]
fn markup_is_not_read_aloud() {
    for (text, said) in [
        (
            "<p>Hello <b>there</b>, my friend.</p>",
            "Hello there, my friend.",
        ),
        (
            "<speak>Hello <break time=\"1s\"/> world</speak>",
            "Hello | {1} | world",
        ),
        ("<speak><p>One.</p><p>Two.</p></speak>", "One. | Two."),
        ("<p><s>One.</s><s>Two.</s></p>", "One. Two."),
        (
            "The tag <say-as interpret-as=\"characters\"> spells.",
            "The tag spells.",
        ),
        (
            "<details><summary>More</summary>Hidden text.</details>",
            "More | Hidden text.",
        ),
        (
            "H~2~O, x^2^, the 19^th^, ==marked words== here.",
            "H2O, x^2, the 19th, marked words here.",
        ),
        (
            "if (a==b && c==d), a == b, ~5 to ~6, 2^10",
            "if (a==b && c==d), a == b, ~5 to ~6, 2^10",
        ),
        (
            "See [the manual](https://example.com/a) for more.",
            "See the manual for more.",
        ),
        (
            "See [the **bold** one][1] there.\n\n[1]: https://example.com",
            "See the bold one there.",
        ),
        ("Look: ![a cat](cat.png) here", "Look: a cat here"),
        ("A [link](https://a.org/b_(c)) there", "A link there"),
        ("\u{1b}[1;31mred\u{1b}[0m and \u{1b}x", "red and x"),
        (
            "# A title\nThe text **is** _here_.",
            "A title | The text is here.",
        ),
        ("- one\n- two\n  more\n* three", "one | two more | three"),
        ("1. First\n2. Second", "1. First | 2. Second"),
        ("- [x] done\n- [ ] open", "done | open"),
        ("> quoted\n> text", "quoted text"),
        (">= 5 of it\n☐ milk\n☑ eggs", ">= 5 of it | milk | eggs"),
        (
            "So it was.[b][2] He[^1]\n\n[^1]: A note.",
            "So it was. He | A note.",
        ),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a , b | 1 , 2"),
        ("```rust\nlet a = 1;\n```", "let a = 1;"),
        ("<think>Let me see.</think>Hello.", "Hello."),
        ("<!-- hidden -->Shown<!--x-->.", "Shown."),
        (
            "Fish &amp; chips &lt;3 &#39;now&#x27; &unknown;",
            "Fish & chips <3 'now' &unknown;",
        ),
        ("if a < b and c > d, or x<5", "if a < b and c > d, or x<5"),
        (
            "2*8 and snake_case and ~5 and a * b",
            "2*8 and snake_case and ~5 and a * b",
        ),
        (
            "<sub alias=\"World Wide Web\">WWW</sub> here",
            "World Wide Web here",
        ),
        (
            "<say-as interpret-as=\"characters\">abc</say-as> x",
            "a b c x",
        ),
        (
            "Mail <me@example.com> or <https://example.com>.",
            "Mail me@example.com or https://example.com.",
        ),
        ("It ends.[^1] So", "It ends. So"),
        ("line one\nline two\n\nnext", "line one line two | next"),
        (
            "one\n\n***\n\ntwo\n\n---\n\n=====\nthree",
            "one | *** | two | --- | ===== | three",
        ),
        ("escaped \\*stars\\*", "escaped *stars*"),
        ("<svg><path d='m'/></svg>Text", "Text"),
        ("List<String> is a type", "List<String> is a type"),
        ("<![CDATA[raw <b> text]]> end", "raw text end"),
    ] {
        assert_eq!(read(text), (said.to_owned(), 0), "{text:?}");
    }
}

#[test]
fn pauses_are_values_and_invalid_ones_are_named() {
    for (text, said, warnings) in [
        ("a [pause:0.5s] b", "a | {0.5} | b", 0),
        ("a [pause 250ms] b", "a | {0.25} | b", 0),
        ("a [pause] b", "a | {0.4} | b", 0),
        ("a [PAUSE: 2] b", "a | {2} | b", 0),
        ("a [pause:soon] b", "a b", 1),
        ("a [pause:900s] b", "a | {60} | b", 1),
        ("a [pause:-1s] b", "a b", 1),
        ("a <break strength='strong'/> b", "a | {0.8} | b", 0),
    ] {
        assert_eq!(read(text), (said.to_owned(), warnings), "{text:?}");
    }
}

#[test]
fn unknown_tags_are_named() {
    for (text, said, warnings) in [
        ("Hm [laugh] yes", "Hm [laugh] yes", 0),
        ("Hm [Laugh] yes", "Hm [laugh] yes", 0),
        ("Hm [sigh] yes", "Hm yes", 1),
        ("Hm [giggle] yes", "Hm [giggle] yes", 1),
        ("As in [1] and [A]", "As in [1] and [A]", 0),
        (
            "<laugh> So <sigh> it is, a<b and c>d",
            "[laugh] So it is, a<b and c>d",
            1,
        ),
        ("Done.<|im_end|><|endoftext|> Next", "Done. Next", 0),
        ("a <| b |> c", "a <| b |> c", 0),
        (
            "As noted[1] and again.[2][3] See [4]",
            "As noted and again. See [4]",
            0,
        ),
        (
            "It was shown[12–14] in items[0] of a[1].",
            "It was shown in items[0] of a[1].",
            0,
        ),
        ("<foo>text</foo>", "text", 2),
        ("<think>never closed", "never closed", 1),
        ("On <!-- and on", "On and on", 1),
    ] {
        assert_eq!(read(text), (said.to_owned(), warnings), "{text:?}");
    }
}

#[test]
fn hostile_texts_take_linear_time() {
    for unit in [
        "<think>", "<x>", "[a](", "<!--", "<", "[", "&", "**a", "\n- ", "|a|\n", "<a b=\"", "![",
        "[x][y]",
    ] {
        let text = unit.repeat(100_000 / unit.len());
        read(&text);
    }
}
