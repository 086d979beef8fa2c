//! One look at an expectation: what was seen, or what was not as expected.

use super::backend::Backend;
use super::file::{Answer, Call, Ends, Expectation, Question, Refusal, Verdict};

/// Stand between the answers in curl's output, and between an answer and its status.
const END: char = '\u{1e}';
const STATUS: char = '\u{1f}';
/// Seconds one call may take.
const PATIENCE: &str = "5";

/// What curl got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    /// 0 without an answer.
    status: u16,
    body: String,
}

pub(super) fn look(expectation: &Expectation, backend: &dyn Backend) -> Result<String, String> {
    match expectation {
        Expectation::Answers { call, answers } => answered(call, answers, &ask(call, backend)?),
        Expectation::Shares { call, shares, within } => {
            let got = ask(call, backend)?;
            let wanted: Vec<_> = shares.iter().map(|(text, percent)| (text.as_str(), *percent)).collect();
            divided(call, &wanted, *within, &got)
        }
        Expectation::Refused { call, refused } => turned_away(call, *refused, &ask(call, backend)?),
        Expectation::Secured { secured } => in_tls(secured, backend),
        Expectation::Explained { explain, verdict, names } => explained(explain, *verdict, names, backend),
    }
}

/// Makes the calls of one expectation with one curl, which keeps its connection as clients do.
fn ask(call: &Call, backend: &dyn Backend) -> Result<Vec<Got>, String> {
    let form = format!("{STATUS}%{{http_code}}{END}");
    let headers: Vec<_> = call.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let url = match call.times {
        1 => call.to.clone(),
        times => format!("{}?call=[1-{times}]", call.to),
    };
    let mut words = vec!["curl", "-s", "-m", PATIENCE, "-X", &call.method, "-w", &form];
    words.extend(headers.iter().flat_map(|header| ["-H", header.as_str()]));
    words.push(&url);
    let said = backend.exec(&call.from, &words).map_err(|error| error.to_string())?;
    let got = read(&said.out);
    if got.len() == call.times as usize {
        return Ok(got);
    }
    Err(format!(
        "{} of {} calls from {} to {}: {}",
        got.len(),
        call.times,
        call.from,
        call.to,
        said.err.trim()
    ))
}

fn read(out: &str) -> Vec<Got> {
    let answers = out.split_terminator(END).filter_map(|answer| {
        let (body, status) = answer.rsplit_once(STATUS)?;
        Some(Got { status: status.parse().ok()?, body: body.to_owned() })
    });
    answers.collect()
}

fn answered(call: &Call, answer: &Answer, got: &[Got]) -> Result<String, String> {
    let other = got.iter().find(|got| got.status != answer.status || !got.body.contains(&answer.text));
    match other {
        None => {
            Ok(format!("{}: {} of {} answered with {}", asked(call), got.len(), got.len(), answer.status))
        }
        Some(got) => Err(format!(
            "{}: status {} and {:?}, not {} and {:?}",
            asked(call),
            got.status,
            got.body.trim(),
            answer.status,
            answer.text
        )),
    }
}

fn divided(call: &Call, shares: &[(&str, f64)], within: f64, got: &[Got]) -> Result<String, String> {
    let all = got.len().max(1) as f64;
    let mut lines = Vec::new();
    for (text, percent) in shares {
        let count = got.iter().filter(|got| got.status == 200 && got.body.contains(text)).count();
        let have = 100.0 * count as f64 / all;
        if (have - percent).abs() > within {
            return Err(format!("{}: {have:.0} % {text}, not {percent} ± {within} %", asked(call)));
        }
        lines.push(format!("{have:.0} % {text}"));
    }
    let counted: usize = got
        .iter()
        .filter(|got| got.status == 200 && shares.iter().any(|(text, _)| got.body.contains(text)))
        .count();
    if counted < got.len() {
        return Err(format!(
            "{}: {} of {} were answered by none of these",
            asked(call),
            got.len() - counted,
            got.len()
        ));
    }
    Ok(format!("{}: {} of {} calls", asked(call), lines.join(", "), got.len()))
}

fn turned_away(call: &Call, refusal: Refusal, got: &[Got]) -> Result<String, String> {
    let is_refused = |got: &&Got| match refusal.status {
        Some(status) => got.status == status,
        None => matches!(got.status, 0 | 403),
    };
    match got.iter().find(|got| !is_refused(got)) {
        None => Ok(format!("{}: {} of {} refused", asked(call), got.len(), got.len())),
        Some(got) => Err(format!("{}: not refused, but answered with {}", asked(call), got.status)),
    }
}

/// A call must be counted as mutual TLS between the identities of both ends.
fn in_tls(ends: &Ends, backend: &dyn Backend) -> Result<String, String> {
    let [client, server] = [&ends.from, &ends.to].map(|name| identity(name));
    let count = || backend.secured(&client, &server).map_err(|error| error.to_string());
    let before = count()?;
    let call = Call {
        from: ends.from.clone(),
        to: ends.call.clone(),
        method: "GET".to_owned(),
        headers: Default::default(),
        times: 1,
    };
    answered(&call, &Answer { status: 200, text: String::new() }, &ask(&call, backend)?)?;
    if count()? > before {
        return Ok(format!("{}: mutual TLS from {client} to {server}", asked(&call)));
    }
    Err(format!("{}: no connection in mutual TLS from {client} to {server} was counted", asked(&call)))
}

fn identity(name: &str) -> String {
    let (namespace, account) = name.split_once('/').unwrap_or(("default", name));
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

fn explained(
    question: &Question,
    verdict: Verdict,
    names: &str,
    backend: &dyn Backend,
) -> Result<String, String> {
    let Question { from, to, method, path } = question;
    let said = backend.explain(question).map_err(|error| error.to_string())?;
    let wanted = match verdict {
        Verdict::Allow => 0,
        Verdict::Deny => 1,
    };
    let request = format!("explain {method} {path} from {from} to {to}");
    if said.code != Some(wanted) || !said.out.contains(names) {
        return Err(format!(
            "{request}: not {verdict:?} by {names:?}: {}{}",
            said.out.trim(),
            said.err.trim()
        ));
    }
    let line = said.out.lines().find(|line| !names.is_empty() && line.contains(names)).unwrap_or_default();
    Ok(format!("{request}: {verdict:?} {}", line.trim()).trim_end().to_owned())
}

fn asked(call: &Call) -> String {
    format!("{} {} from {}", call.method, call.to, call.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(status: u16, body: &str) -> Got {
        Got { status, body: body.to_owned() }
    }

    fn call() -> Call {
        let (from, to) = ("a/b".to_owned(), "http://web/".to_owned());
        Call { from, to, method: "GET".to_owned(), headers: Default::default(), times: 1 }
    }

    #[test]
    fn curls_output_is_taken_apart() {
        let out = "Hello\n\u{1f}200\u{1e}\u{1f}000\u{1e}RBAC\u{1f}403\u{1e}";
        assert_eq!(read(out), [got(200, "Hello\n"), got(0, ""), got(403, "RBAC")]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn one_other_answer_is_enough_to_break_an_expectation() {
        let wanted = Answer { status: 200, text: "v1".to_owned() };
        assert!(answered(&call(), &wanted, &[got(200, "v1"), got(200, "v1")]).is_ok());
        assert!(answered(&call(), &wanted, &[got(200, "v1"), got(200, "v2")]).unwrap_err().contains("v2"));
        assert!(answered(&call(), &wanted, &[got(503, "v1")]).unwrap_err().contains("503"));
        let refused = |status, seen: &[Got]| turned_away(&call(), Refusal { status }, seen).is_ok();
        assert!(refused(None, &[got(403, ""), got(0, "")]));
        assert!(!refused(None, &[got(403, ""), got(503, "")]));
        assert!(!refused(Some(403), &[got(0, "")]));
    }

    #[test]
    fn shares_lie_within_bounds_and_leave_nothing_over() {
        let seen: Vec<_> = (0..10).map(|number| got(200, if number < 4 { "v1" } else { "v2" })).collect();
        let even = [("v1", 50.0), ("v2", 50.0)];
        assert!(divided(&call(), &even, 10.0, &seen).is_ok());
        assert!(divided(&call(), &even, 9.0, &seen).is_err());
        assert!(divided(&call(), &[("v1", 40.0)], 1.0, &seen).unwrap_err().contains("6 of 10"));
    }
}
