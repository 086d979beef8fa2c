//! The demo as people run it: it ends well where every promise holds, names the promise that is broken from outside, and
//! runs again after it was killed.

#[path = "support/check.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ambit_lab::demo::{Promise, Sort};
use ambit_lab::sandbox;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use support::{Check, check};

/// Longest time of a warm run.
const WARM: Duration = Duration::from_secs(60);
const POLICY: &str = include_str!("../samples/demo/3-policy.yaml");

fn main() -> std::process::ExitCode {
    sandbox::enter();
    let mut arguments = Arguments::from_args();
    // What one trial measures must not wait for the other.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("every_promise_holds", every_promise_holds),
        Trial::test("what_is_broken_from_outside_is_named", broken),
        Trial::test("the_demo_survives_kill_9_and_runs_again", killed),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Labs of this test, apart from all others of this user.
struct Labs(PathBuf);

impl Labs {
    fn new(name: &str) -> Self {
        Labs(std::env::temp_dir().join(format!("ambit-demo-{name}-{}", std::process::id())))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-lab"));
        sandbox::forget_namespaces(&mut command);
        command.args(words).env("AMBIT_LAB_DIR", &self.0);
        command
    }

    /// A command that must succeed.
    fn run(&self, words: &[&str]) -> Result<String, Failed> {
        let output = self.command(words).output()?;
        check(output.status.success(), || format!("{words:?}: {}", text(&output)))?;
        Ok(text(&output))
    }

    /// The same with an input.
    fn feed(&self, words: &[&str], input: &str) -> Check {
        let mut command = self.command(words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        check(output.status.success(), || format!("{words:?}: {}", text(&output)))
    }

    /// Looks at the running demo: exactly these promises must be broken, and the exit code must say so.
    fn look(&self, words: &[&str], expected: &[Promise]) -> Check {
        let words = [&["demo", "--on", "shop", "--once"], words].concat();
        let start = Instant::now();
        let output = self.command(&words).output()?;
        let said = text(&output);
        let named = named(&said);
        println!("{words:?}: {} after {:.1?}, broken: {named:?}", output.status, start.elapsed());
        check(named == expected.iter().map(Promise::to_string).collect::<Vec<_>>(), || {
            format!("expected {expected:?} to be named: {said}")
        })?;
        check(output.status.code() == Some(i32::from(!expected.is_empty())), || {
            format!("{}: {said}", output.status)
        })
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        // A failed trial leaves its lab running; nothing of it may stay.
        let _down = self.command(&["down", "--name", "shop"]).output();
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The promises that the sum at the end names as broken.
fn named(said: &str) -> Vec<String> {
    let Some((_looks, sum)) = said.split_once("are BROKEN") else { return Vec::new() };
    let lines = sum.lines().skip(1).filter(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn every_promise_holds() -> Check {
    let labs = Labs::new("once");
    let start = Instant::now();
    let output = labs.command(&["demo", "--once"]).output()?;
    let (said, took) = (text(&output), start.elapsed());
    println!("{said}\ntook {took:.1?}");
    check(output.status.success(), || output.status.to_string())?;
    check(took < WARM, || format!("took {took:?}"))?;
    for promise in Promise::ALL {
        let line =
            said.lines().position(|line| line.starts_with("ok ") && line.ends_with(promise.sentence()));
        let line = line.ok_or_else(|| format!("{promise} is not shown"))?;
        let after: Vec<_> = said.lines().skip(line + 1).take_while(|line| !line.is_empty()).collect();
        let command = format!("$ cargo xtask lab demo --once --only {promise}");
        check(after.len() > 1 && after[after.len() - 1].trim() == command, || {
            format!("{promise}: {after:?}")
        })?;
        let numbers = promise == Promise::Names || after[0].contains(|letter: char| letter.is_ascii_digit());
        check(numbers, || format!("{promise} shows no number: {}", after[0]))?;
    }
    let left: Vec<_> = std::fs::read_dir(&labs.0)?.flatten().map(|entry| entry.path()).collect();
    check(left.is_empty(), || format!("left behind: {left:?}"))
}

fn broken() -> Check {
    let labs = Labs::new("broken");
    let demo = Demo::start(&labs)?;
    labs.look(&[], &[])?;
    policy_removed(&labs)?;
    rules_flushed(&labs)?;
    proxy_stopped(&labs)?;
    demo.end()?;
    let gone = labs.command(&["status", "--name", "shop"]).output()?;
    check(!gone.status.success(), || text(&gone))
}

fn policy_removed(labs: &Labs) -> Check {
    let policy =
        POLICY.split("---\n").find(|document| document.contains("action: DENY")).ok_or("no policy")?;
    labs.feed(&["delete", "--name", "shop", "-f", "-", "--wait"], policy)?;
    labs.look(&[], &[Promise::Deny])?;
    labs.feed(&["apply", "--name", "shop", "-f", "-", "--wait"], policy)?;
    labs.look(&["--only", "deny"], &[])
}

/// The agents mend rules, so they are stopped first; then they must mend them when they are back.
fn rules_flushed(labs: &Labs) -> Check {
    for node in ["agent/node-1", "agent/node-2"] {
        labs.run(&["break", "kill", node, "--name", "shop"])?;
    }
    labs.run(&["break", "flush", "shop/web", "--name", "shop"])?;
    // Whoever is outside gets in. Whoever is inside does not: the pod's answers miss the way back into the tunnel.
    labs.look(&[], &[Promise::Strict, Promise::Deny, Promise::Balance])?;
    for node in ["agent/node-1", "agent/node-2"] {
        labs.run(&["break", "start", node, "--name", "shop"])?;
    }
    let end = Instant::now() + Duration::from_secs(10);
    while let Err(broken) = labs.look(&["--only", "strict"], &[]) {
        if Instant::now() > end {
            return Err(broken);
        }
    }
    Ok(())
}

fn proxy_stopped(labs: &Labs) -> Check {
    labs.run(&["break", "kill", "ztunnel/node-2", "--name", "shop"])?;
    labs.look(&["--only", "served"], &[Promise::Served])?;
    let output = labs.command(&["demo", "--on", "shop", "--once"]).output()?;
    let said = text(&output);
    let named = named(&said);
    println!("without the proxy of node 2: {named:?}");
    check(output.status.code() == Some(1), || said.clone())?;
    // Whatever needs node 2 is broken, but nothing that is to be refused is let through.
    check(named.contains(&Promise::Served.to_string()), || said.clone())?;
    check(named.contains(&Promise::Encrypted.to_string()), || said.clone())?;
    check(!said.contains("got through") && !said.contains("can be read"), || said.clone())?;
    let disturbing = Promise::ALL.into_iter().filter(|promise| promise.sort() == Sort::Disturbing);
    for promise in disturbing {
        check(said.contains(&format!("{promise}: what is broken already")), || said.clone())?;
    }
    Ok(())
}

/// Killed while it draws on a terminal: the terminal is as it was, nothing runs on, and the next demo comes up.
fn killed() -> Check {
    let labs = Labs::new("killed");
    let words = "stty rows 40 cols 150; stty -g; $PROGRAM demo --name shop --only served; echo ended with $?; stty -g";
    let terminal = labs.command(&[]);
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command", words, "/dev/null"])
        .env("PROGRAM", terminal.get_program());
    for (name, value) in terminal.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or("no output")?;
    // Drawn for the second time means drawn over the first.
    let before = read_until(&mut output, "p50 / p99", 2)?;
    let about: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(labs.0.join("shop/lab.json"))?)?;
    let outer = about["pid"].as_i64().ok_or("no process id")? as i32;
    let inner = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
    kill(Pid::from_raw(outer), Signal::SIGKILL)?;
    let after = read_until(&mut output, "ended with 137", 1)? + &read_to_end(&mut output)?;
    child.wait()?;
    let settings = |text: &str| {
        text.lines().map(str::trim).find(|line| line.matches(':').count() > 10).map(str::to_owned)
    };
    check(settings(&before).is_some() && settings(&before) == settings(&after), || {
        format!("{before}\n{after}")
    })?;
    // No mode was set, so none has to be taken back.
    check(before.contains("\u{1b}[") && !before.contains("\u{1b}[?"), || format!("{before:?}"))?;
    let gone = poll(|| inner.split_whitespace().all(|process| !Path::new("/proc").join(process).exists()));
    check(gone, || format!("the lab's first process {inner}runs on"))?;
    let demo = Demo::start(&labs)?;
    labs.look(&["--only", "served"], &[])?;
    demo.end()?;
    let left: Vec<_> = std::fs::read_dir(&labs.0)?.flatten().map(|entry| entry.path()).collect();
    check(left.is_empty(), || format!("left behind: {left:?}"))
}

/// Whether it comes true soon.
fn poll(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// What is said until some words have come so many times.
fn read_until(from: &mut impl Read, words: &str, times: usize) -> Result<String, Failed> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let said = String::from_utf8_lossy(&all);
        if said.matches(words).count() >= times {
            return Ok(said.into_owned());
        }
        match from.read(&mut piece)? {
            0 => return Err(format!("ended without {words:?}: {said}").into()),
            read => all.extend_from_slice(&piece[..read]),
        }
    }
}

fn read_to_end(from: &mut impl Read) -> Result<String, Failed> {
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// A demo that stays up.
struct Demo {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Demo {
    /// Comes up, shows a promise, and rates after it.
    fn start(labs: &Labs) -> Result<Self, Failed> {
        let mut command = labs.command(&["demo", "--name", "shop", "--only", "served"]);
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut demo = Demo { child, output };
        demo.read_until("promises hold")?;
        demo.read_until("stays up until Ctrl-C")?;
        // In the first second not every caller has called.
        demo.read_until("/s let through")?;
        let rates = demo.read_until("refused last: ")?;
        println!("{rates}");
        let nothing = |words: &str| rates.contains(&format!(" 0.0/s {words}"));
        check(nothing("failed") && !nothing("refused") && !rates.starts_with("0/s"), || rates.clone())?;
        Ok(demo)
    }

    fn read_until(&mut self, part: &str) -> Result<String, Failed> {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err(format!("the demo ended without {part:?}: {all}").into());
            }
            if line.contains(part) {
                return Ok(line);
            }
            all += &line;
        }
    }

    /// Ctrl-C, as a terminal sends it: to all of the group.
    fn end(mut self) -> Check {
        // Read on, or the demo could wait for room in the pipe.
        let reader = std::thread::spawn(move || std::io::copy(&mut self.output, &mut std::io::sink()));
        let start = Instant::now();
        killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        let status = self.child.wait()?;
        // The pipe ends with the demo.
        let _read = reader.join();
        check(status.success() && start.elapsed() < Duration::from_secs(10), || {
            format!("{status} {:?} after Ctrl-C", start.elapsed())
        })
    }
}
