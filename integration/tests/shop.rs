//! The sample shop is what its page says: the page's commands, run as written, show 47 calls per order, who may do what,
//! and three versions of the reviews.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/check.rs"]
mod support;

use by_hand::{Expected, Page};
use libtest_mimic::{Arguments, Trial};
use support::{Check, check};

const PAGE: &str = "deploy/samples/shop/README.md";
const NAME: &str = "shop";

fn main() -> std::process::ExitCode {
    let trials = vec![Trial::test("the_page_is_true", page)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn page() -> Check {
    let page = Page::open(PAGE, NAME)?;
    page.follow(expected)?;
    let said = page.run("cargo xtask lab status --name shop")?;
    check(!said.well, || format!("the lab still runs after the last line: {}", said.text))
}

/// What the page says of a line.
fn expected(line: &str) -> Expected {
    const TABLE: [(&str, Expected); 11] = [
        (" up ", Expected::Says(&["is up"])),
        (" status ", Expected::Says(&["shop-orders/payment", "enabled"])),
        ("frontend/checkout", Expected::Says(&["\"made\": 1", "\"good\": 1"])),
        ("checkout.shop-orders", Expected::Says(&["\"made\": 47", "\"good\": 47"])),
        ("ztunnel/node-1", Expected::Says(&["src.identity=spiffe://cluster.local/ns/shop", "dst.identity="])),
        ("payment.shop-orders", Expected::Fails("curl:")),
        ("x-shop-user:tester", Expected::Says(&["200 OK", "x-app-version: v3"])),
        ("-X POST", Expected::Says(&["403"])),
        ("shop/crawler -- curl", Expected::Says(&["403"])),
        ("-D - reviews", Expected::Says(&["200 OK", "x-app-version: v"])),
        ("logs --name shop shop/crawler", Expected::Says(&["status 403", "connect"])),
    ];
    let found = TABLE.into_iter().find(|(part, _)| line.contains(part));
    found.map_or(Expected::Says(&[]), |(_, expected)| expected)
}
