//! The picture of a recorded run: a scalable drawing that is legible on light and dark pages. Pure: the same recording
//! is always the same picture.

mod layout;
mod svg;

use super::cast::Kind;
use super::recording::Recording;
use super::scene::Unit;
use layout::{Card, Layout, Line, Sort, WIDTH};
use svg::{Anchor, Drawing};

/// Where the graph begins.
const TOP: f64 = 92.0;
/// Distance of two lines of text.
const ROW: f64 = 25.0;
/// Refusals that are told at most.
const REFUSALS: usize = 6;
/// Size of a way's label.
const LABEL: (f64, f64) = (104.0, 21.0);
/// Where the reasons of refusals begin.
const REASONS: f64 = 412.0;
const LEFT: f64 = 24.0;

/// Draws it.
pub fn draw(recording: &Recording) -> String {
    let layout = Layout::of(&recording.scene, TOP);
    let mut drawing = Drawing::default();
    header(&mut drawing, recording);
    layout.lines.iter().for_each(|line| way(&mut drawing, line));
    layout.boxes.iter().for_each(|found| workload(&mut drawing, found));
    let bottom = refusals(&mut drawing, recording, layout.bottom + 44.0);
    drawing.finish(WIDTH, bottom)
}

fn header(drawing: &mut Drawing, recording: &Recording) {
    let held = recording.findings.iter().filter(|finding| finding.holds).count();
    let title = format!(
        "{} nodes, {} pods; {held} of {} promises hold; what the mesh's own metrics and logs say in {:.0} s",
        recording.nodes,
        recording.pods,
        recording.findings.len(),
        recording.seconds
    );
    drawing.text((LEFT, 38.0), Anchor::Start, "title", "cargo xtask demo");
    drawing.text((LEFT, 62.0), Anchor::Start, "dim", &title);
    let legend = [
        (Sort::Secured, "mutual TLS, by certificate"),
        (Sort::Plain, "plaintext, permitted"),
        (Sort::Refused, "refused by policy"),
    ];
    for (row, (sort, words)) in legend.into_iter().enumerate() {
        let y = 26.0 + 19.0 * row as f64;
        let x = WIDTH - 232.0;
        drawing.curve((x, y), (x + 30.0, y), class(sort), 2.5);
        drawing.text((x + 40.0, y + 4.5), Anchor::Start, "dim", words);
    }
}

fn class(sort: Sort) -> &'static str {
    match sort {
        Sort::Secured => "secured",
        Sort::Plain => "plain",
        Sort::Refused => "refused",
    }
}

/// A way, with its label before the box it leads to.
fn way(drawing: &mut Drawing, line: &Line) {
    let class = class(line.sort);
    let (x, y) = line.to;
    let left = x - 12.0 - LABEL.0;
    // Ten times the calls are one and a half more of width.
    let width = (1.5 + 0.9 * line.rate.max(1.0).log10()).min(5.0);
    drawing.curve(line.from, (left, y), class, width);
    if line.sort == Sort::Refused {
        drawing.cross((x - 5.5, y));
    } else {
        drawing.curve((left + LABEL.0, y), (x - 6.0, y), class, width);
        drawing.arrow((x, y), class);
    }
    drawing.label((left, y - LABEL.1 / 2.0), LABEL, class);
    let unit = match (line.sort, line.unit) {
        (Sort::Refused, _) => "refused",
        (_, Unit::Connections) => "conn/s",
        (_, Unit::Requests) => "req/s",
    };
    let rate = if line.rate < 9.95 { format!("{:.1}", line.rate) } else { format!("{:.0}", line.rate) };
    let text = if line.sort == Sort::Refused { format!("{rate}/s {unit}") } else { format!("{rate} {unit}") };
    match line.sort {
        Sort::Secured => drawing.lock((left + 10.0, y), class),
        Sort::Plain => drawing.open_lock((left + 10.0, y), class),
        Sort::Refused => {}
    }
    let start = if line.sort == Sort::Refused { left + LABEL.0 / 2.0 } else { left + 26.0 };
    let anchor = if line.sort == Sort::Refused { Anchor::Middle } else { Anchor::Start };
    drawing.text((start, y + 4.5), anchor, &format!("small {class}-text"), &text);
}

fn workload(drawing: &mut Drawing, found: &Card) {
    let place = &found.place;
    let (class, what) = match place.kind {
        Kind::Enrolled => ("box enrolled", ""),
        Kind::Waypoint => ("box waypoint", "HTTP rules, "),
        Kind::Outside => ("box outside", "outside the mesh, "),
    };
    drawing.rectangle((found.left, found.top), (found.width, found.height), class);
    let nodes: Vec<_> = place.nodes.iter().map(|node| node.replace("node-", "node ")).collect();
    let pods = if place.pods == 1 { String::new() } else { format!("{} pods, ", place.pods) };
    let nodes = match nodes.as_slice() {
        [one] => one.clone(),
        several => format!("{} nodes", several.len()),
    };
    let (x, middle) = (found.left + 14.0, found.top + found.height / 2.0);
    drawing.text((x, middle - 4.0), Anchor::Start, "name", &place.workload.to_string());
    drawing.text((x, middle + 15.0), Anchor::Start, "small dim", &format!("{what}{pods}{nodes}"));
}

/// What was refused and why; returns where it ends.
fn refusals(drawing: &mut Drawing, recording: &Recording, top: f64) -> f64 {
    let mut told: Vec<_> = recording.scene.refusals.iter().take(REFUSALS).collect();
    told.sort_by(|one, other| {
        (&one.to, &one.from, &one.request).cmp(&(&other.to, &other.from, &other.request))
    });
    drawing.rule((LEFT, top - 22.0), WIDTH - LEFT);
    drawing.text((LEFT, top + 4.0), Anchor::Start, "name", "Refused, and why");
    for (row, refusal) in told.iter().enumerate() {
        let y = top + 4.0 + ROW * (row + 1) as f64;
        let request = refusal.request.as_ref().map_or_else(String::new, |request| format!("  {request}"));
        drawing.text(
            (LEFT, y),
            Anchor::Start,
            "text",
            &format!("{} → {}{request}", refusal.from, refusal.to),
        );
        drawing.text((REASONS, y), Anchor::Start, "text refused-text", &refusal.why.sentence());
    }
    let bottom = top + 4.0 + ROW * (told.len() + 1) as f64 + 6.0;
    let source = format!("Drawn by the demo from a recorded run. {}", recording.machine);
    drawing.text((LEFT, bottom), Anchor::Start, "small dim", &source);
    bottom + 18.0
}
