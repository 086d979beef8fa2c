//! Where everything stands in the picture: workloads in columns from callers to servers, ways as curves between them,
//! each with a place of its own on either side so that no two labels meet. Pure.

use std::collections::BTreeMap;

use crate::demo::cast::{Kind, Place, Workload};
use crate::demo::scene::{Edge, Scene, Security, Unit};

/// Width of the picture.
pub(super) const WIDTH: f64 = 960.0;
/// Left edge and width of each column of boxes; what is further right shares the last.
const COLUMNS: [(f64, f64); 3] = [(24.0, 172.0), (412.0, 190.0), (776.0, 160.0)];
/// Distance of two ways at a box.
const SLOT: f64 = 27.0;
/// Least height of a box.
const LEAST: f64 = 58.0;
/// Room around the ways of a box.
const MARGIN: f64 = 8.0;
/// Least distance of two boxes.
const GAP: f64 = 16.0;
/// Most rounds of pushing workloads to the right; a circle of callers ends there.
const ROUNDS: usize = 8;

/// A workload's box.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Card {
    pub(super) place: Place,
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// What a line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    Secured,
    Plain,
    Refused,
}

/// A way, from the right side of one box to the left side of another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) sort: Sort,
    pub(super) unit: Unit,
    /// Calls a second.
    pub(super) rate: f64,
    pub(super) from: (f64, f64),
    pub(super) to: (f64, f64),
}

/// The whole graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) boxes: Vec<Card>,
    pub(super) lines: Vec<Line>,
    /// Where the graph ends.
    pub(super) bottom: f64,
}

/// A way before it has a place: indices of its boxes.
struct Wire {
    from: usize,
    to: usize,
    sort: Sort,
    unit: Unit,
    rate: f64,
}

impl Layout {
    /// Lays a scene out, from this height on. Workloads that neither call nor are called are left out.
    pub(super) fn of(scene: &Scene, top: f64) -> Self {
        let places = sorted(scene);
        let at: BTreeMap<&Workload, usize> =
            places.iter().enumerate().map(|(index, (_column, place))| (&place.workload, index)).collect();
        let mut wires: Vec<_> = scene.edges.iter().flat_map(|edge| wires(edge, &at)).collect();
        wires.sort_by_key(|wire| (wire.from, wire.to, wire.sort));
        let mut boxes: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(index, (column, place))| {
                let ways = |side: fn(&Wire) -> usize| wires.iter().filter(|wire| side(wire) == index).count();
                let most = ways(|wire| wire.from).max(ways(|wire| wire.to));
                let (left, width) = COLUMNS[*column];
                let height = (most as f64 * SLOT + 2.0 * MARGIN).max(LEAST);
                Card { place: (*place).clone(), left, top, width, height }
            })
            .collect();
        let bottom = stack(&mut boxes, &wires, top);
        let lines = lines(&wires, &boxes);
        Layout { boxes, lines, bottom }
    }
}

/// The workloads with their columns, in the order they stand in: those in the mesh first, then the busiest.
fn sorted(scene: &Scene) -> Vec<(usize, &Place)> {
    let columns = columns(&scene.edges);
    let load = |workload: &Workload| -> f64 {
        let mine = scene.edges.iter().filter(|edge| edge.way.from == *workload || edge.way.to == *workload);
        mine.map(|edge| edge.good + edge.refused).sum()
    };
    let mut places: Vec<_> =
        scene.places.iter().filter_map(|place| Some((*columns.get(&place.workload)?, place))).collect();
    let rank = |kind: Kind| match kind {
        Kind::Enrolled => 0,
        Kind::Waypoint => 1,
        Kind::Outside => 2,
    };
    places.sort_by(|(column, one), (other_column, other)| {
        let order = (column, rank(one.kind)).cmp(&(other_column, rank(other.kind)));
        order
            .then_with(|| load(&other.workload).total_cmp(&load(&one.workload)))
            .then_with(|| one.workload.cmp(&other.workload))
    });
    places
}

/// Each workload stands to the right of all that call it.
fn columns(edges: &[Edge]) -> BTreeMap<Workload, usize> {
    let ends = edges.iter().flat_map(|edge| [&edge.way.from, &edge.way.to]);
    let mut columns: BTreeMap<Workload, usize> = ends.map(|end| (end.clone(), 0)).collect();
    for _round in 0..ROUNDS {
        for edge in edges.iter().filter(|edge| edge.way.from != edge.way.to) {
            let right = (columns[&edge.way.from] + 1).min(COLUMNS.len() - 1);
            if let Some(column) = columns.get_mut(&edge.way.to) {
                *column = right.max(*column);
            }
        }
    }
    columns
}

/// What was let through and what was refused are lines of their own.
fn wires(edge: &Edge, at: &BTreeMap<&Workload, usize>) -> Vec<Wire> {
    let (Some(from), Some(to)) = (at.get(&edge.way.from), at.get(&edge.way.to)) else { return Vec::new() };
    let through = match edge.way.security {
        Security::MutualTls => Sort::Secured,
        Security::Plaintext => Sort::Plain,
    };
    let both = [(through, edge.good), (Sort::Refused, edge.refused)];
    let used = both.into_iter().filter(|(_sort, rate)| *rate > 0.0);
    used.map(|(sort, rate)| Wire { from: *from, to: *to, sort, unit: edge.way.unit, rate }).collect()
}

/// Sets the boxes of each column below each other; returns where the highest column ends. Lower ones stand beside those
/// who call them, the first one in the middle.
fn stack(boxes: &mut [Card], wires: &[Wire], top: f64) -> f64 {
    let members = |boxes: &[Card], left: f64| -> Vec<usize> {
        (0..boxes.len()).filter(|index| boxes[*index].left == left).collect()
    };
    let height = |boxes: &[Card], members: &[usize]| {
        let heights: f64 = members.iter().map(|index| boxes[*index].height).sum();
        heights + GAP * members.len().saturating_sub(1) as f64
    };
    let columns: Vec<_> = COLUMNS.iter().map(|(left, _width)| members(boxes, *left)).collect();
    let highest = columns.iter().map(|members| height(boxes, members)).fold(0.0, f64::max);
    for members in &columns {
        let own = height(boxes, members);
        let callers = wires.iter().filter(|wire| members.contains(&wire.to));
        let middles: Vec<_> =
            callers.map(|wire| boxes[wire.from].top + boxes[wire.from].height / 2.0).collect();
        let middle = match middles.len() {
            0 => top + highest / 2.0,
            count => middles.iter().sum::<f64>() / count as f64,
        };
        let mut at = (middle - own / 2.0).clamp(top, top + highest - own);
        for index in members {
            boxes[*index].top = at;
            at += boxes[*index].height + GAP;
        }
    }
    top + highest
}

/// Each line gets the next place at both of its boxes.
fn lines(wires: &[Wire], boxes: &[Card]) -> Vec<Line> {
    let place = |found: &Card, nth: usize, of: usize| {
        found.top + found.height / 2.0 + (nth as f64 - (of as f64 - 1.0) / 2.0) * SLOT
    };
    let among = |wire: &Wire, side: fn(&Wire) -> usize| {
        let mine: Vec<_> = wires.iter().filter(|other| side(other) == side(wire)).collect();
        let nth = mine.iter().position(|other| std::ptr::eq(*other, wire)).unwrap_or_default();
        (nth, mine.len())
    };
    wires
        .iter()
        .map(|wire| {
            let (from, to) = (&boxes[wire.from], &boxes[wire.to]);
            let (out, outs) = among(wire, |wire| wire.from);
            let (into, ins) = among(wire, |wire| wire.to);
            Line {
                sort: wire.sort,
                unit: wire.unit,
                rate: wire.rate,
                from: (from.left + from.width, place(from, out, outs)),
                to: (to.left, place(to, into, ins)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Layout, SLOT};
    use crate::demo::recording::Recording;

    #[test]
    fn nothing_of_the_recorded_run_stands_on_something_else() {
        let recording = include_str!("../../../../deploy/picture/run.json");
        let recording: Recording = serde_json::from_str(recording).expect("is a recording");
        let layout = Layout::of(&recording.scene, 100.0);
        assert!(layout.boxes.len() >= 8 && layout.lines.len() >= 10, "{layout:?}");
        for (index, one) in layout.boxes.iter().enumerate() {
            assert!(one.top >= 100.0 && one.top + one.height <= layout.bottom + 0.1, "{one:?}");
            for other in &layout.boxes[index + 1..] {
                let beside = one.left + one.width <= other.left || other.left + other.width <= one.left;
                let apart = one.top + one.height <= other.top || other.top + other.height <= one.top;
                assert!(beside || apart, "{one:?} and {other:?}");
            }
        }
        for (index, one) in layout.lines.iter().enumerate() {
            assert!(one.from.0 < one.to.0, "a way leads back: {one:?}");
            for other in &layout.lines[index + 1..] {
                let apart = one.to.0 != other.to.0 || (one.to.1 - other.to.1).abs() >= SLOT - 0.1;
                assert!(apart, "the labels of {one:?} and {other:?} meet");
            }
        }
    }
}
