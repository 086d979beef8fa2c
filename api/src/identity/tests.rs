//! Identities from texts, hostile ones included.

use proptest::prelude::*;

use super::{Identity, InvalidIdentity, TrustDomain};

#[test]
fn parts_and_texts_agree() {
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web-1".parse().expect("is valid");
    assert_eq!(identity.trust_domain(), &TrustDomain::default());
    assert_eq!((identity.namespace(), identity.service_account()), ("shop", "web-1"));
    assert_eq!(identity.uri(), "spiffe://cluster.local/ns/shop/sa/web-1");
    assert_eq!(identity.principal(), "cluster.local/ns/shop/sa/web-1");
    assert_eq!(identity.to_string(), identity.uri());
    assert_eq!(Identity::new(&TrustDomain::default(), "shop", "web-1"), Ok(identity));
}

#[test]
fn hostile_texts_are_no_identities() {
    let long = format!("spiffe://td/ns/{}/sa/b", "a".repeat(2048));
    for text in [
        "",
        "spiffe://",
        "spiffe:///ns/a/sa/b",
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td/ns/a/sa/b/",
        "spiffe://td/ns/a/sa/b/c",
        "spiffe://td//ns/a/sa/b",
        "spiffe://td/ns//sa/b",
        "spiffe://td/ns/a/sa/",
        "spiffe://td/ns/a/sa",
        "spiffe://td/ns/../sa/b",
        "spiffe://td/ns/a/sa/..",
        "spiffe://td/ns/./sa/b",
        "spiffe://td/NS/a/sa/b",
        "spiffe://td/ns/a/SA/b",
        "spiffe://td/sa/a/ns/b",
        "spiffe://TD/ns/a/sa/b",
        "spiffe://td:443/ns/a/sa/b",
        "spiffe://user@td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b?x=y",
        "spiffe://td/ns/a/sa/b#x",
        "spiffe://td/ns/a/sa/b\0",
        "spiffe://td\0/ns/a/sa/b",
        "spiffe://td/ns/a\0evil/sa/b",
        "spiffe://td/ns/a/sa/b%00",
        "spiffe://td/ns/a%2Fsa%2Fadmin/sa/b",
        "spiffe://td/ns/a/sa/b ",
        " spiffe://td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b\n",
        "spiffe://td/ns/ä/sa/b",
        "SPIFFE://td/ns/a/sa/b",
        "https://td/ns/a/sa/b",
        "td/ns/a/sa/b",
        &long,
    ] {
        assert!(text.parse::<Identity>().is_err(), "{text:?} was taken");
    }
}

#[test]
fn parts_cannot_smuggle_others() {
    let domain = TrustDomain::default();
    for (namespace, account) in
        [("a/sa/b", "c"), ("a", "b/c"), ("", "b"), ("a", ""), ("..", "b"), ("a\0", "b")]
    {
        assert!(Identity::new(&domain, namespace, account).is_err(), "{namespace:?} {account:?} was taken");
    }
    for name in ["", "a b", "a/ns/b", "spiffe://", "spiffe://td", "A", "a\0"] {
        assert!(TrustDomain::new(name).is_err(), "{name:?} was taken");
    }
    let path: Result<Identity, _> = "spiffe://td/ns/a".parse();
    assert_eq!(path, Err(InvalidIdentity::Path("spiffe://td/ns/a".to_owned())));
}

proptest! {
    #[test]
    fn an_identity_is_the_text_it_came_from(text in "(spiffe://)?[a-z.%/]{0,6}/ns/[a-zA-Z/%.]{0,4}/sa/.{0,4}") {
        if let Ok(identity) = text.parse::<Identity>() {
            prop_assert_eq!(identity.uri(), &text);
            let parts = Identity::new(identity.trust_domain(), identity.namespace(), identity.service_account());
            prop_assert_eq!(parts, Ok(identity));
        }
    }
}
