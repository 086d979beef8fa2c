//! Bad manifests through the real controller: one clear line each, and nothing else is disturbed.

#[path = "support/check.rs"]
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ambit_lab::load::{Connections, Live, Load, Outcome};
use ambit_lab::{Component, Lab, LabOptions, Manifests, PodHandle, Served};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const SHOP: &str = include_str!("manifests/bad-input.yaml");
const SAID: &str = "apples";
/// Longest time until a file is read and its line is written.
const READ: Duration = Duration::from_secs(10);
/// Permitted requests a second while bad files come and go.
const RATE: f64 = 500.0;
/// The documented limit of a file is 4 MiB.
const OVER_THE_LIMIT: usize = (4 << 20) + 1;

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // Each trial's load is to fail for its own files' sake only.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("one_clear_line_each", || in_shop(lines)),
        Trial::test("the_last_good_version_stays", || in_shop(last_good)),
        Trial::test("princpals_never_widens", || in_shop(princpals)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A lab with the shop in the mesh, and permitted requests all the while, of which none may fail.
fn in_shop(trial: fn(&Shop) -> Check) -> Check {
    let empty = std::env::temp_dir().join(format!("ambit-empty-{}", std::process::id()));
    std::fs::create_dir_all(&empty)?;
    let mut options = LabOptions::inline(SHOP);
    options.manifests.push(Manifests::Folder(empty.clone()));
    let lab = Lab::up(options)?;
    lab.settled()?;
    let to = |name: &str| -> Result<_, Failed> { Ok((lab.pod(name)?.address.v4, 8080).into()) };
    let (cart, open) = (to("shop/cart")?, to("shop/open")?);
    let shop =
        Shop { client: lab.pod("shop/client")?, batch: lab.pod("shop/batch")?, cart, open, empty, lab };
    let (live, load) = shop.load();
    let outcome = trial(&shop);
    live.stop();
    let load = load.join().map_err(|_panic| "the load failed")??;
    println!(
        "permitted requests meanwhile: {} sent, {} answered, failed: {:?}",
        load.sent, load.good, load.failed
    );
    std::fs::remove_dir_all(&shop.empty)?;
    outcome?;
    check(load.good > 100 && load.failures() == 0, || format!("permitted requests: {load:?}"))
}

struct Shop {
    client: PodHandle,
    batch: PodHandle,
    /// Only the client may use it.
    cart: std::net::SocketAddr,
    /// Everybody may use it.
    open: std::net::SocketAddr,
    empty: PathBuf,
    lab: Lab,
}

impl Shop {
    fn load(&self) -> (Arc<Live>, JoinHandle<std::io::Result<Outcome>>) {
        let mut load = Load::new(self.cart);
        load.rate = Some(RATE);
        load.width = 8;
        load.connections = Connections::OnePerRequest;
        load.time = Duration::from_secs(300);
        load.expect = SAID.to_owned();
        let live = Arc::clone(&load.live);
        (live, self.lab.thread_in(&self.client, move || load.run()))
    }

    /// Writes a file of manifests and waits until the controller has taken it up everywhere.
    fn write(&self, file: &str, text: &str) -> Check {
        std::fs::write(self.lab.manifests().join(file), text)?;
        Ok(self.lab.settled()?)
    }

    /// The new line of the controller's log that holds all these words.
    fn line(&self, from: usize, words: &[&str]) -> Result<String, Failed> {
        let new = |line: &&str| words.iter().all(|word| line.contains(word));
        let end = std::time::Instant::now() + READ;
        loop {
            let log = self.log();
            if let Some(line) = log[from..].lines().find(new) {
                return Ok(line.to_owned());
            }
            check(std::time::Instant::now() < end, || {
                format!("no line with {words:?} in:\n{}", &log[from..])
            })?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The controller's log, with the marks of quotation as they stood in the message.
    fn log(&self) -> String {
        self.lab.logs(Component::Controller).replace("\\\"", "\"")
    }

    fn mark(&self) -> usize {
        self.log().len()
    }

    /// Whether the controller gives proxies an Authorization of this name.
    fn applied(&self, name: &str) -> Result<bool, Failed> {
        let dump = self.lab.ask(Component::Controller, Served::Administration, "GET", "/config_dump")?;
        let dump: serde_json::Value = serde_json::from_str(&dump.body)?;
        let list = dump["authorizations"].as_array().ok_or("no authorizations")?;
        Ok(list.iter().any(|one| one["name"] == name))
    }

    /// Whether new requests of this pod are answered; a mixture of both is an error.
    fn gets(&self, from: &PodHandle, to: std::net::SocketAddr) -> Result<bool, Failed> {
        let answers = self.lab.in_pod(from, move || {
            let ask = || ambit_lab::http::request("GET", to, "/", Duration::from_secs(2));
            (0..10).filter(|_| ask().is_ok_and(|answer| answer.body.contains(SAID))).count()
        });
        check(answers == 0 || answers == 10, || {
            format!("{answers} of 10 requests of {} answered", from.name)
        })?;
        Ok(answers == 10)
    }

    /// What client and batch get of cart and of the open pod.
    fn holds(&self, cart: [bool; 2], open: [bool; 2], when: &str) -> Check {
        for (server, name, expected) in [(self.cart, "cart", cart), (self.open, "open", open)] {
            let have = [self.gets(&self.client, server)?, self.gets(&self.batch, server)?];
            println!("{when}: {name} answers client {}, batch {}", have[0], have[1]);
            check(have == expected, || {
                format!("{when}: {name} answers [client, batch] {have:?}, not {expected:?}")
            })?;
        }
        Ok(())
    }

    fn restart_controller(&self) -> Check {
        self.lab.kill(Component::Controller)?;
        self.lab.start(Component::Controller)?;
        self.lab.wait_ready(Component::Controller)?;
        Ok(self.lab.settled()?)
    }

    /// What `ambit analyze` says of a folder.
    fn analyze(&self) -> Result<String, Failed> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_ambit-lab")).with_file_name("ambit");
        let output =
            Command::new(program).arg("analyze").arg(self.lab.manifests()).arg(&self.empty).output()?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Bad documents: what is written, and what the line about it must hold beside file and line number.
const BAD: &[(&str, &str, &[&str])] = &[
    (
        "unknown-kind",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolice\nmetadata: {name: bad, namespace: shop}\n",
        &[":2: ", "unknown kind \"AuthorizationPolice\"", "did you mean \"AuthorizationPolicy\"?"],
    ),
    (
        "wrong-type",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: wrong-type, namespace: shop}\nspec:\n  selector: {matchLabels: {app: nobody}}\n  rules: yes\n",
        &[":6: ", "AuthorizationPolicy shop/wrong-type: spec.rules: wrong type", "write the expected type"],
    ),
    (
        "bad-cidr",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: bad-cidr, namespace: shop}\nspec:\n  selector: {matchLabels: {app: nobody}}\n  action: DENY\n  rules:\n  - from:\n    - source: {ipBlocks: [10.0.0.300/8]}\n",
        &[
            ":9: ",
            "AuthorizationPolicy shop/bad-cidr: ",
            "ipBlocks[0]: \"10.0.0.300/8\"",
            "write for example 10.0.0.0/8",
        ],
    ),
    (
        "unknown-field",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: unknown-field, namespace: shop}\nspec:\n  selector: {matchLabels: {app: nobody}}\n  mtls: {mood: STRICT}\n",
        &[":6: ", "PeerAuthentication shop/unknown-field: spec.mtls.mood: unknown field", "; "],
    ),
    (
        "later-kind",
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: later, namespace: shop}\nspec: {egress: [{hosts: [\"./*\"]}]}\n",
        &["Sidecar shop/later: this kind is known, but nothing enforces it yet"],
    ),
    (
        "duplicate",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: cart, namespace: shop}\nspec: {}\n",
        &[
            ":1: ",
            "AuthorizationPolicy shop/cart: metadata.name: the same object stands at",
            "which stays in force",
            "rename",
        ],
    ),
];

/// A policy on the open pod that refuses nobody there is, to see that it is applied.
fn companion(name: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: open}}}}\n  action: DENY\n  rules:\n  - from:\n    - source: {{principals: [cluster.local/ns/shop/sa/nobody]}}\n"
    )
}

fn lines(shop: &Shop) -> Check {
    println!(
        "{}",
        shop.line(0, &["in the source", &shop.empty.display().to_string(), "holds no manifests"])?
    );
    for (name, bad, words) in BAD {
        // After the good ones by name: of two objects of one name the first stands.
        let (file, mark, good) = (format!("z-{name}.yaml"), shop.mark(), format!("good-{name}"));
        shop.write(&file, &format!("{bad}---\n{}", companion(&good)))?;
        let words = [&["in the source", file.as_str()], *words].concat();
        println!("{}", shop.line(mark, &words)?);
        check(shop.applied(&format!("shop/{good}"))?, || format!("{good} beside it is not applied"))?;
        shop.holds([true, false], [true, true], name)?;
        let said = shop.analyze()?;
        let found = said.lines().any(|line| words[1..].iter().all(|word| line.contains(word)));
        check(found, || format!("ambit analyze on {name}: {said}"))?;
    }
    let said = shop.analyze()?;
    check(said.contains("holds no manifests"), || format!("ambit analyze on an empty folder: {said}"))?;
    // Each of them once, however often the folder was read since.
    let log = shop.log();
    for (name, _bad, words) in BAD {
        let times = log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
        check(times == 1, || format!("{name} was reported {times} times:\n{log}"))?;
    }
    Ok(())
}

/// Files that cannot be read any more keep what they held, also when the controller starts again.
fn last_good(shop: &Shop) -> Check {
    let broken = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x\n  more: [\n".to_owned();
    let large = companion("large") + "#" + &"x".repeat(OVER_THE_LIMIT);
    let cases = [("broken", broken, "not YAML"), ("large", large, "larger than 4 MiB; split the file")];
    for (name, bad, words) in &cases {
        let file = format!("{name}.yaml");
        shop.write(&file, &companion(name))?;
        check(shop.applied(&format!("shop/{name}"))?, || format!("{name} is not applied"))?;
        let mark = shop.mark();
        shop.write(&file, bad)?;
        println!(
            "{}",
            shop.line(mark, &["in the source", &file, words, "the last good version stays in force"])?
        );
        check(shop.applied(&format!("shop/{name}"))?, || format!("{name} is not in force any more"))?;
        shop.holds([true, false], [true, true], name)?;
        let said = shop.analyze()?;
        check(said.lines().any(|line| line.contains(&file) && line.contains(words)), || said.clone())?;
    }
    shop.restart_controller()?;
    for (name, _bad, _words) in &cases {
        check(shop.applied(&format!("shop/{name}"))?, || {
            format!("{name} is gone after the controller's restart")
        })?;
    }
    shop.holds([true, false], [true, true], "after the controller's restart")
}

/// A policy on the open pod: this field of its source names one account.
fn policy(action: &str, field: &str, account: &str) -> String {
    let upper = action.to_uppercase();
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: open-{action}, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: open}}}}\n  action: {upper}\n  rules:\n  - from:\n    - source: {{{field}: [cluster.local/ns/shop/sa/{account}]}}\n"
    )
}

fn princpals(shop: &Shop) -> Check {
    let words = ["in the source", "princpals: unknown field", "did you mean \"principals\"?"];
    for (action, account) in [("allow", "client"), ("deny", "batch")] {
        let bad = policy(action, "princpals", account);
        let (file, mark) = (format!("open-{action}.yaml"), shop.mark());
        shop.write(&file, &bad)?;
        println!("{}", shop.line(mark, &[&words[..], &[&file, "no version of it was ever valid"]].concat())?);
        shop.holds([true, false], [false, false], &format!("{action} with princpals, never valid before"))?;
        std::fs::remove_file(shop.lab.manifests().join(&file))?;
        shop.lab.settled()?;
        shop.holds([true, false], [true, true], "after its removal")?;
        // The same after a good version: that one stays, whatever the controller goes through.
        shop.write(&file, &policy(action, "principals", account))?;
        shop.holds([true, false], [true, false], &format!("{action} with principals"))?;
        let mark = shop.mark();
        shop.write(&file, &bad)?;
        println!(
            "{}",
            shop.line(mark, &[&words[..], &[&file, "the last good version stays in force"]].concat())?
        );
        shop.holds([true, false], [true, false], &format!("{action} with princpals, valid before"))?;
        shop.restart_controller()?;
        shop.holds([true, false], [true, false], "after the controller's restart")?;
        std::fs::remove_file(shop.lab.manifests().join(&file))?;
        shop.lab.settled()?;
    }
    Ok(())
}
