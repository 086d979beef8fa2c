//! The live view's text: who calls whom, locks, rates, what was refused and why, laid out for a terminal. Pure.

use super::refusal::Refusal;
use super::scene::{Edge, Scene, Security, Unit};

/// Rows that refusals may take.
const REFUSALS: usize = 8;
/// Columns of a refusal's count.
const COUNT: usize = 9;
/// Columns between two texts.
const BETWEEN: usize = 3;
/// What stands where nothing is counted.
const NOTHING: &str = "·";

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
}

/// A line of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "0",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "1;31",
        }
    }
}

impl Line {
    pub(crate) fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// As a terminal of this width shows it: never longer, and plain at its end.
    pub(crate) fn render(&self, width: usize) -> String {
        let mut room = width;
        let mut out = String::new();
        for (style, text) in &self.0 {
            out += &format!("\u{1b}[{}m", style.code());
            for letter in text.chars() {
                let takes = columns(letter);
                if takes > room {
                    room = 0;
                    break;
                }
                room -= takes;
                out.push(letter);
            }
            out += "\u{1b}[0m";
        }
        out
    }
}

/// Columns a letter takes.
fn columns(letter: char) -> usize {
    if letter == LOCK { 2 } else { 1 }
}

const LOCK: char = '🔒';

/// The view for a terminal of so many columns and rows; what does not fit is left out from the end of each part.
pub(crate) fn view(title: &str, scene: &Scene, (columns, rows): (usize, usize)) -> Vec<Line> {
    let mut lines = vec![Line::default().with(Style::Bold, title), Line::default()];
    let (edges, refusals, programs) = (edges(scene), refusals(scene, columns), programs(scene, columns));
    // Title, headings, and the lines between the parts.
    let room = rows.saturating_sub(2 + 1 + 2 + 1 + programs.len());
    let each = refusals.first().map_or(1, Vec::len);
    let for_refusals = refusals.len().min(room / 3 / each);
    let for_edges = edges.len().min(room.saturating_sub(for_refusals * each));
    lines.push(heading(scene));
    lines.extend(edges.into_iter().take(for_edges));
    if for_refusals > 0 {
        lines.push(Line::default());
        lines.push(Line::default().with(Style::Dim, "refused by policy, and why"));
        lines.extend(refusals.into_iter().take(for_refusals).flatten());
    }
    lines.push(Line::default());
    lines.extend(programs);
    lines.truncate(rows);
    lines
}

/// The same in one line, for where there is no terminal.
pub(crate) fn plain(scene: &Scene) -> String {
    // What passes a waypoint is one call, however many ways it takes.
    let calls = scene.edges.iter().filter(|edge| !behind_waypoint(scene, edge));
    let (good, refused, failed) = calls.fold((0.0, 0.0, 0.0), |(good, refused, failed), edge| {
        (good + edge.good, refused + edge.refused, failed + edge.failed)
    });
    let latest = scene.refusals.first().map_or_else(String::new, |latest| {
        format!("; refused last: {} → {}: {}", latest.from, latest.to, latest.why.sentence())
    });
    format!("{good:.0}/s let through, {refused:.1}/s refused, {failed:.1}/s failed{latest}")
}

/// Whether a way begins at a waypoint.
pub(crate) fn behind_waypoint(scene: &Scene, edge: &Edge) -> bool {
    let waypoint = super::cast::Kind::Waypoint;
    scene.places.iter().any(|place| place.kind == waypoint && place.workload == edge.way.from)
}

/// Width of the columns of names.
fn widths(scene: &Scene) -> [usize; 2] {
    let widest = |name: fn(&Edge) -> String| {
        scene.edges.iter().map(|edge| name(edge).chars().count()).max().unwrap_or_default()
    };
    [widest(|edge| edge.way.from.to_string()), widest(|edge| edge.way.to.to_string())]
}

fn heading(scene: &Scene) -> Line {
    let [from, to] = widths(scene);
    let text = format!(
        "{:from$}   {:to$}  {:<9} {:>10} {:>8} {:>7}   {}",
        "who", "calls", "secured", "per second", "refused", "failed", "p50 / p99, ms"
    );
    Line::default().with(Style::Dim, text)
}

fn edges(scene: &Scene) -> Vec<Line> {
    let [from, to] = widths(scene);
    let line = |edge: &Edge| {
        let (lock, secured) = match edge.way.security {
            Security::MutualTls => (Style::Good, format!("{LOCK} {:<6}", "mTLS")),
            Security::Plaintext => (Style::Plain, format!("{:<9}", "plaintext")),
        };
        let unit = match edge.way.unit {
            Unit::Connections => " conn",
            Unit::Requests => " req",
        };
        let wait = edge.latency.map_or_else(String::new, |[p50, p99]| format!("{p50:.1} / {p99:.1}"));
        let refused = edge.good == 0.0 && edge.refused > 0.0;
        let (style, arrow) = if refused { (Style::Bad, " ✗ ") } else { (Style::Plain, " → ") };
        Line::default()
            .with(Style::Plain, format!("{:from$}", edge.way.from))
            .with(style, arrow)
            .with(Style::Plain, format!("{:to$}  ", edge.way.to))
            .with(lock, secured)
            .with(Style::Bold, format!(" {:>10}", figure(edge.good, unit)))
            .with(Style::Bad, format!(" {:>8}", figure(edge.refused, "")))
            .with(Style::Bad, format!(" {:>7}", figure(edge.failed, "")))
            .with(Style::Dim, format!("   {wait}"))
    };
    scene.edges.iter().map(line).collect()
}

/// A rate, or that there is none.
fn figure(rate: f64, unit: &str) -> String {
    if rate == 0.0 { NOTHING.to_owned() } else { format!("{rate:.1}{unit}") }
}

/// The latest of them, in an order that does not change with every call; the reason has a line of its own where there is
/// no room beside the call.
fn refusals(scene: &Scene, columns: usize) -> Vec<Vec<Line>> {
    let mut latest: Vec<&Refusal> = scene.refusals.iter().take(REFUSALS).collect();
    let order = |refusal: &Refusal| (refusal.to.clone(), refusal.from.clone(), refusal.request.clone());
    latest.sort_by_key(|refusal| order(refusal));
    let call = |refusal: &Refusal| {
        let request = refusal.request.as_ref().map_or_else(String::new, |request| format!("  {request}"));
        format!("{} → {}{request}", refusal.from, refusal.to)
    };
    let why = |refusal: &Refusal| format!("{} (layer {})", refusal.why.sentence(), refusal.why.layer);
    let widest = |text: &dyn Fn(&Refusal) -> String| {
        latest.iter().map(|refusal| text(refusal).chars().count()).max().unwrap_or_default()
    };
    let beside = widest(&call);
    let narrow = COUNT + beside + BETWEEN + widest(&why) > columns;
    let lines = |refusal: &&Refusal| {
        let first = Line::default().with(Style::Bad, format!("{:>6} × ", refusal.count));
        let (call, why) = (call(refusal), why(refusal));
        if narrow {
            let second = Line::default().with(Style::Dim, format!("{:COUNT$}{why}", ""));
            return vec![first.with(Style::Plain, call), second];
        }
        let between = beside + BETWEEN;
        vec![first.with(Style::Plain, format!("{call:between$}")).with(Style::Dim, why)]
    };
    latest.iter().map(lines).collect()
}

fn programs(scene: &Scene, columns: usize) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    let mut used = 0;
    for program in &scene.programs {
        let (style, text) = match program.megabytes {
            Some(megabytes) => (Style::Dim, format!("{} {megabytes:.0} MB", program.name)),
            None => (Style::Bad, format!("{} is down", program.name)),
        };
        let wide = text.chars().count() + BETWEEN;
        if used > 0 && used + wide > columns {
            lines.push(Line::default());
            used = 0;
        }
        used += wide;
        let last = lines.len() - 1;
        lines[last].0.push((style, format!("{text}{:BETWEEN$}", "")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Line, NOTHING, Style, plain, view};
    use crate::demo::recording::Recording;
    use crate::demo::scene::{Program, Scene};

    fn scene() -> Scene {
        let recording = include_str!("../../../deploy/picture/run.json");
        serde_json::from_str::<Recording>(recording).expect("is a recording").scene
    }

    /// What a terminal shows, without colours.
    fn text(lines: &[Line], width: usize) -> Vec<String> {
        let plain = |line: &Line| {
            let rendered = line.render(width);
            let pieces = rendered.split('\u{1b}').enumerate();
            pieces
                .map(
                    |(at, piece)| if at == 0 { piece } else { piece.split_once('m').map_or("", |cut| cut.1) },
                )
                .collect()
        };
        lines.iter().map(plain).collect()
    }

    #[test]
    fn callers_locks_rates_and_reasons_are_shown() {
        let mut scene = scene();
        scene.programs.push(Program { name: "ztunnel/node-9".to_owned(), megabytes: None });
        let all = text(&view("title", &scene, (200, 60)), 200);
        let row = |from: &str, to: &str| {
            let found = all.iter().find(|line| line.starts_with(from) && line.contains(to));
            found.unwrap_or_else(|| panic!("{from} {to}: {all:#?}")).clone()
        };
        assert!(row("shop/client", "→ shop/web").contains("🔒 mTLS"));
        assert!(row("shop/client", "→ shop/web").contains(" conn "));
        assert!(row("legacy/visitor", "→ shop/catalog").contains("plaintext"));
        assert!(row("shop/batch", "✗ shop/cart").contains(NOTHING));
        assert!(
            all.iter().any(|line| line.contains("POST /reviews/1") && line.contains("(layer T)")),
            "{all:#?}"
        );
        assert!(all.iter().any(|line| line.trim_end().ends_with("ztunnel/node-9 is down")), "{all:#?}");
        assert!(plain(&scene).contains("refused last: "), "{}", plain(&scene));
    }

    #[test]
    fn every_size_of_terminal_is_kept_to() {
        for rows in [0, 1, 5, 12, 23, 60] {
            for width in [1, 20, 80, 200] {
                let lines = view("title", &scene(), (width, rows));
                assert!(lines.len() <= rows, "{rows}");
                let wide = |line: &String| line.chars().map(super::columns).sum::<usize>() > width;
                assert!(!text(&lines, width).iter().any(wide), "{width} columns");
            }
        }
        let narrow = text(&view("title", &scene(), (80, 40)), 80);
        let heading = narrow.iter().find(|line| line.starts_with("who")).expect("there is a heading");
        assert!(heading.contains("failed"), "what counts most fits the usual terminal: {heading}");
        let reasons =
            narrow.iter().filter(|line| line.ends_with("(layer l4)") || line.ends_with("(layer T)"));
        assert_eq!(reasons.count(), scene().refusals.len(), "{narrow:#?}");
        let line = Line::default().with(Style::Bad, "🔒x");
        assert!(line.render(1).ends_with("\u{1b}[0m") && !line.render(1).contains('x'));
    }
}
