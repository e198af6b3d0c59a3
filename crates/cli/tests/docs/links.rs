//! No broken links or tables, and every page of the book is in its table of contents.

use crate::page::{Page, pages, root};
use std::collections::BTreeSet;
use std::path::Path;

/// Why a link of `page` is broken.
fn broken(page: &Page, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.path.clone(),
        file => page.path.parent().unwrap().join(file),
    };
    if !target.exists() {
        return Some(format!("{}: {link}: there is no such file", page.name));
    }
    if anchor.is_empty() {
        return None;
    }
    let target = target.canonicalize().unwrap();
    let name = target.strip_prefix(root().canonicalize().unwrap()).unwrap();
    let anchors = Page::named(name.to_str().unwrap()).anchors();
    (!anchors.iter().any(|known| known == anchor))
        .then(|| format!("{}: {link}: there is no such heading", page.name))
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = Vec::new();
    let mut count = 0;
    for page in pages() {
        for link in page.links() {
            count += 1;
            found.extend(broken(&page, &link));
        }
    }
    assert!(count > 50, "only {count} links were seen");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_row_stands_below_its_tables_head() {
    for page in pages() {
        assert_eq!(page.stray_rows(), [0; 0], "{}: by line", page.name);
    }
}

#[test]
fn every_page_of_the_book_stands_in_its_table_of_contents() {
    let summary = Page::named("docs/SUMMARY.md");
    let listed: BTreeSet<String> = summary
        .links()
        .into_iter()
        .map(|link| format!("docs/{link}"))
        .collect();
    for page in pages() {
        let of_the_book = Path::new(&page.name).starts_with("docs") && page.name != summary.name;
        assert!(
            !of_the_book || listed.contains(&page.name),
            "{}: add it to docs/SUMMARY.md",
            page.name
        );
    }
}

/// Links must stay within the book: its built pages have nothing beside them.
#[test]
fn the_book_links_to_nothing_beside_it() {
    for page in pages() {
        if !page.name.starts_with("docs/") {
            continue;
        }
        let folder = Path::new(&page.name).parent().unwrap();
        for link in page.links() {
            let up = link.split('/').take_while(|part| *part == "..").count();
            let depth = folder.components().count() - 1;
            assert!(
                link.contains("://") || up <= depth,
                "{}: {link} leaves the book: give the repository's address",
                page.name
            );
        }
    }
}
