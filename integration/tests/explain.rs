//! `ambit explain` and the data plane say the same: for random configurations and requests through real processes, whether
//! a request passes, and if not, which layer, policy, rule and reason stop it. Explain runs in a process of its own and
//! reads the manifests alone.

#[path = "explain/generate.rs"]
mod generate;
#[path = "explain/observe.rs"]
mod observe;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ambit_lab::{Lab, LabOptions, key_of};
use generate::{Configuration, Question};
use libtest_mimic::{Arguments, Failed, Trial};
use observe::{Met, Seen};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/explain.yaml");
/// Configurations of each seed, and requests under each configuration.
const CONFIGURATIONS: usize = 42;
const REQUESTS: usize = 40;
/// The seed that every run uses, beside a fresh one.
const FIXED: u64 = 4;
/// Of every way to be stopped there must be this many.
const LEAST: usize = 20;
/// Every way to be stopped that a request can meet here: who stops it, and the reason.
const STOPS: [&str; 9] = [
    "l4 policy_denied",
    "T policy_denied",
    "S policy_denied",
    "lock policy_denied",
    "policy_unknown",
    "bad_request",
    "no_route",
    "no_healthy_endpoint",
    "backend_broken",
];

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all.
    arguments.test_threads = Some(1);
    let room = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Room) -> Check| {
        let room = Arc::clone(&room);
        Trial::test(name, move || {
            run(room.get_or_init(|| Room::up().map_err(|error| format!("{error:?}"))).as_ref()?)
        })
    };
    let trials = vec![
        trial("a_changed_rule_is_noticed", changed),
        trial("explain_and_the_data_plane_agree", agreement),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A running lab and the folders that explain reads.
struct Room {
    lab: Lab,
    folders: Vec<PathBuf>,
}

/// A request, what explain says of it, and what became of it.
struct Pair {
    question: Question,
    said: Value,
    seen: Seen,
}

impl Room {
    fn up() -> Result<Self, Failed> {
        let lab = Lab::up(support::named(LabOptions::inline(MANIFESTS)))?;
        check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
        lab.settled()?;
        let inside = |name: &str| lab.folder().join(name);
        let folders = vec![lab.manifests(), inside("generated"), inside("applied"), inside("state/objects")];
        Ok(Self { lab, folders })
    }

    /// Runs requests under a configuration, and asks explain about them in the folders that `folders` makes meanwhile.
    fn run(
        &self,
        configuration: &Configuration,
        questions: Vec<Question>,
        folders: impl Fn(&Self) -> Result<Vec<PathBuf>, Failed>,
    ) -> Result<Vec<Pair>, Failed> {
        let faults = self.lab.apply(&configuration.text())?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        self.lab.settled()?;
        let said = explain(&folders(self)?, &questions)?;
        let seen = observe::all(&self.lab, &questions)?;
        let keys: Vec<_> = configuration.keys().map(|(kind, name)| key_of(kind, &name)).collect();
        self.lab.delete(&keys)?;
        let pairs = questions.into_iter().zip(said).zip(seen);
        Ok(pairs.map(|((question, said), seen)| Pair { question, said, seen }).collect())
    }
}

/// What `ambit explain` answers, line by line.
fn explain(folders: &[PathBuf], questions: &[Question]) -> Result<Vec<Value>, Failed> {
    let file = std::env::temp_dir().join(format!("ambit-explain-{}.jsonl", std::process::id()));
    let lines: Vec<String> = questions.iter().map(|question| question.line().to_string()).collect();
    std::fs::write(&file, lines.join("\n"))?;
    let mut command = Command::new(program()?);
    command.args(["explain", "-o", "json", "--requests"]).arg(&file);
    folders.iter().for_each(|folder| {
        command.arg("--dir").arg(folder);
    });
    let output = command.output();
    std::fs::remove_file(&file)?;
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answers = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    check(answers.len() == questions.len(), || format!("{} answers: {output:?}", answers.len()))?;
    Ok(answers)
}

/// The `ambit` command that was built beside this test.
fn program() -> Result<PathBuf, Failed> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("no folder of programs")?;
    let program = folder.join("ambit");
    check(program.is_file(), || format!("{} is missing; build the programs first", program.display()))?;
    Ok(program)
}

fn agreement(room: &Room) -> Check {
    let fresh: u64 = rand::rng().random();
    println!("seeds {FIXED} and {fresh}");
    let began = Instant::now();
    let (mut pairs, mut stopped, mut wrong) = (0, BTreeMap::<String, usize>::new(), Vec::new());
    for seed in [FIXED, fresh] {
        let mut rng = StdRng::seed_from_u64(seed);
        for number in 0..CONFIGURATIONS {
            let configuration = Configuration::draw(number, seed, &mut rng);
            let questions = (0..REQUESTS).map(|_| Question::draw(&configuration, &room.lab, &mut rng));
            let questions = questions.collect::<Result<_, _>>()?;
            for pair in room.run(&configuration, questions, |room| Ok(room.folders.clone()))? {
                pairs += 1;
                if let Some(stop) = pair.seen.stop() {
                    *stopped.entry(stop).or_default() += 1;
                }
                if let Err(why) = pair.compare() {
                    wrong.push(format!(
                        "seed {seed}, configuration {number}: {why}\n{}",
                        configuration.text()
                    ));
                }
            }
        }
    }
    let denied: usize =
        stopped.iter().filter(|(stop, _)| stop.contains("policy")).map(|(_, count)| count).sum();
    println!("{pairs} requests in {:?}, {denied} denied; stopped: {stopped:?}", began.elapsed());
    check(wrong.is_empty(), || format!("{} of {pairs} disagree; the first: {}", wrong.len(), wrong[0]))?;
    check(pairs >= 1_000, || format!("only {pairs} requests"))?;
    check(denied * 10 >= pairs * 3, || format!("only {denied} of {pairs} were denied"))?;
    let rare: Vec<_> =
        STOPS.iter().filter(|stop| stopped.get(**stop).copied().unwrap_or_default() < LEAST).collect();
    check(rare.is_empty(), || format!("fewer than {LEAST} times: {rare:?}"))
}

/// Explain's folder says POST where the mesh says GET: that must be seen, and nothing while they say the same.
fn changed(room: &Room) -> Check {
    let configuration = Configuration::one_policy();
    let questions = |room: &Room| {
        let callers = ["shop/ann", "shop/bob", "other/carol"];
        let each = callers.iter().flat_map(|from| ["GET", "POST"].map(|method| (from, method)));
        each.map(|(from, method)| Question::plain(&room.lab, from, method)).collect::<Result<Vec<_>, _>>()
    };
    let same = room.run(&configuration, questions(room)?, |room| Ok(room.folders.clone()))?;
    check(same.iter().all(|pair| pair.compare().is_ok()), || "they differ without a change".to_owned())?;
    let copy = std::env::temp_dir().join(format!("ambit-explain-{}", std::process::id()));
    let altered = |room: &Room| {
        std::fs::create_dir_all(&copy)?;
        let mut folders = room.folders.clone();
        for entry in std::fs::read_dir(&folders[2])? {
            let file = entry?.path();
            let text = std::fs::read_to_string(&file)?.replace("\"GET\"", "\"POST\"");
            std::fs::write(copy.join(file.file_name().unwrap_or_default()), text)?;
        }
        folders[2] = copy.clone();
        Ok(folders)
    };
    let differ = room.run(&configuration, questions(room)?, altered);
    std::fs::remove_dir_all(&copy)?;
    let unlike = differ?.iter().filter(|pair| pair.compare().is_err()).count();
    // Both callers of the namespace, with either method.
    check(unlike == 4, || format!("{unlike} requests differ instead of 4"))
}

impl Pair {
    /// What was seen must be among what explain says can happen.
    fn compare(&self) -> Result<(), String> {
        let outcomes = self.said["outcomes"].as_array().cloned().unwrap_or_default();
        if outcomes.iter().any(|outcome| self.seen.is(outcome)) {
            return Ok(());
        }
        Err(format!("{}\nseen: {:?}\nsaid: {}", self.question.line(), self.seen, self.said))
    }
}

impl Seen {
    /// Who stopped a request and why, in two words; nothing of one that passed.
    fn stop(&self) -> Option<String> {
        let line = self.line.as_ref()?;
        Some(match (&line.layer, line.reason.as_str()) {
            (Some(layer), reason) if reason != "policy_unknown" => format!("{layer} {reason}"),
            (_, reason) => reason.to_owned(),
        })
    }

    /// Whether this is what an outcome of explain's foretells.
    fn is(&self, outcome: &Value) -> bool {
        let text = |field: &str| outcome[field].as_str().map(str::to_owned);
        let at_waypoint = outcome["at"].as_str().is_some_and(|at| at.starts_with("waypoint"));
        match (outcome["verdict"].as_str(), &self.line) {
            (Some("allowed"), None) => {
                let status = outcome["status"].as_u64().unwrap_or(200);
                matches!(self.met, Met::Status(met) if u64::from(met) == status)
            }
            (Some("denied"), Some(line)) => {
                line.at_waypoint == at_waypoint
                    && (line.layer.clone(), Some(line.reason.clone())) == (text("layer"), text("reason"))
                    && (line.policy.clone(), line.attribute.clone()) == (text("policy"), text("attribute"))
                    && line.rule == outcome["rule"].as_u64()
            }
            (Some("failed"), Some(line)) => {
                line.at_waypoint == at_waypoint
                    && line.layer.is_none()
                    && Some(line.reason.clone()) == text("reason")
            }
            _ => false,
        }
    }
}
