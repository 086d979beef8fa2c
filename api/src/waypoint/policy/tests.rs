//! The wildcards and operators of paths.

use super::PathMatch;

#[test]
fn paths_match_as_their_wildcards_and_operators_say() {
    let rows: [(&str, &[&str], &[&str]); 12] = [
        ("/a", &["/a"], &["/a/", "/ab", "/", "/A"]),
        ("/a*", &["/a", "/ab", "/a/b"], &["/b"]),
        ("*.html", &["/a.html", ".html"], &["/a.htm"]),
        ("*", &["/", "/a"], &[""]),
        ("/a{b", &["/a{b"], &["/a"]),
        ("/a/{*}", &["/a/b", "/a/*"], &["/a", "/a/", "/a/b/", "/a/b/c"]),
        ("/{*}/b", &["/a/b"], &["//b", "/a/c", "/a/a/b", "/a/b/"]),
        ("/a/{*}/c/{*}", &["/a/b/c/d"], &["/a/b/d/d", "/a/b/c/"]),
        ("/a/{**}", &["/a/", "/a/b", "/a/b/c/"], &["/a", "/b/a/"]),
        ("/{**}", &["/", "/a/b"], &[""]),
        ("/a/{**}/z", &["/a/b/z", "/a/b/c/z", "/a//z"], &["/a/z", "/a/b/y", "/a/b/zz"]),
        ("/a/{*}/{**}/z.txt", &["/a/b/c/z.txt"], &["/a/b/z.txt", "/a//c/z.txt"]),
    ];
    for (written, hits, misses) in rows {
        let path = PathMatch::new(written).expect(written);
        hits.iter().for_each(|one| assert!(path.matches(one), "{written} {one}"));
        misses.iter().for_each(|one| assert!(!path.matches(one), "{written} {one}"));
    }
    for bad in ["/a/{**}/{*}", "/a/{**}/{**}", "/a{*}", "/{*}b", "/{*}/*", "{*}", "/{**}a", "/{*}/{x}"] {
        assert!(PathMatch::new(bad).is_err(), "{bad}");
    }
}
