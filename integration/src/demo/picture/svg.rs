//! Shapes and texts of a scalable drawing, and its two sets of colours.

use std::fmt::{Display, Write};

/// Colours for pages of either kind: class, what it sets, on light pages, on dark ones.
const COLOURS: [(&str, &str, &str, &str); 17] = [
    (".page", "fill", "#ffffff", "#0d1117"),
    (".page", "stroke", "#d1d9e0", "#30363d"),
    (".title,.name,.text", "fill", "#1f2328", "#e6edf3"),
    (".dim", "fill", "#59636e", "#9198a1"),
    (".rule", "stroke", "#d1d9e0", "#30363d"),
    (".enrolled", "fill", "#eef9f0", "#12261a"),
    (".enrolled", "stroke", "#1a7f37", "#3fb950"),
    (".waypoint", "fill", "#f4efff", "#211a36"),
    (".waypoint", "stroke", "#8250df", "#a371f7"),
    (".outside", "fill", "#f6f8fa", "#161b22"),
    (".outside", "stroke", "#818b98", "#6e7681"),
    (".secured", "stroke", "#1a7f37", "#3fb950"),
    (".plain", "stroke", "#9a6700", "#d29922"),
    (".refused", "stroke", "#cf222e", "#f85149"),
    (".secured-text,.secured.solid", "fill", "#1a7f37", "#3fb950"),
    (".plain-text,.plain.solid", "fill", "#9a6700", "#d29922"),
    (".refused-text", "fill", "#cf222e", "#f85149"),
];

/// What does not depend on the page.
const STYLE: &str = "\
text{font-family:ui-sans-serif,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif;font-size:14px}
.title{font-size:22px;font-weight:600;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace}
.name{font-size:15px;font-weight:600}
.small{font-size:13px}
.box{stroke-width:1.5}
.outside{stroke-dasharray:5 4}
.way{fill:none}
.plain.way{stroke-dasharray:7 5}
.refused.way{stroke-dasharray:3 4}
.label{stroke-width:1}
.solid{stroke:none}
.cross{stroke-width:2.5;fill:none;stroke-linecap:round}
.shackle{fill:none;stroke-width:1.6}
";

/// Where a text's position is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
}

type Point = (f64, f64);

/// Shapes in the order they are drawn in.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing(String);

impl Drawing {
    /// A flowing line from left to right.
    pub(super) fn curve(&mut self, from: Point, to: Point, class: &str, width: f64) {
        let middle = f64::midpoint(from.0, to.0);
        self.line(format_args!(
            "<path class=\"{class} way\" stroke-width=\"{width:.1}\" d=\"M{:.1} {:.1}C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}\"/>",
            from.0, from.1, from.1, to.1, to.0, to.1
        ));
    }

    /// A head that points right, with its tip here.
    pub(super) fn arrow(&mut self, tip: Point, class: &str) {
        let (x, y) = tip;
        self.line(format_args!(
            "<path class=\"{class} solid\" d=\"M{:.1} {:.1}L{x:.1} {y:.1}L{:.1} {:.1}Z\"/>",
            x - 8.0,
            y - 5.0,
            x - 8.0,
            y + 5.0
        ));
    }

    /// A cross with its middle here.
    pub(super) fn cross(&mut self, middle: Point) {
        let (x, y) = middle;
        self.line(format_args!(
            "<path class=\"refused cross\" d=\"M{:.1} {:.1}l7 7m0 -7l-7 7\"/>",
            x - 3.5,
            y - 3.5
        ));
    }

    /// Ground of a label.
    pub(super) fn label(&mut self, corner: Point, size: Point, class: &str) {
        self.line(format_args!(
            "<rect class=\"page label {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"6\"/>",
            corner.0, corner.1, size.0, size.1
        ));
    }

    /// A box.
    pub(super) fn rectangle(&mut self, corner: Point, size: Point, class: &str) {
        self.line(format_args!(
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"8\"/>",
            corner.0, corner.1, size.0, size.1
        ));
    }

    /// A closed padlock, its left side in the middle here.
    pub(super) fn lock(&mut self, left: Point, class: &str) {
        self.padlock(left, class, "v-2.6a3 3 0 0 1 6 0v2.6");
    }

    /// An open one.
    pub(super) fn open_lock(&mut self, left: Point, class: &str) {
        self.padlock(left, class, "v-3.6a3 3 0 0 1 5.6 -1.4");
    }

    fn padlock(&mut self, left: Point, class: &str, shackle: &str) {
        let (x, y) = left;
        self.line(format_args!(
            "<path class=\"{class} shackle\" d=\"M{:.1} {:.1}{shackle}\"/><rect class=\"{class} solid\" x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"7.5\" rx=\"1.5\"/>",
            x + 2.0,
            y - 1.0,
            y - 1.5
        ));
    }

    /// A line across.
    pub(super) fn rule(&mut self, from: Point, to: f64) {
        self.line(format_args!("<path class=\"rule\" d=\"M{:.1} {:.1}H{to:.1}\"/>", from.0, from.1));
    }

    /// A line of text on its base line.
    pub(super) fn text(&mut self, at: Point, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.line(format_args!(
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\"{anchor}>{text}</text>",
            at.0, at.1
        ));
    }

    fn line(&mut self, shape: impl Display) {
        // Writing to a String cannot fail.
        let _written = writeln!(self.0, "{shape}");
    }

    /// The whole file.
    pub(super) fn finish(self, width: f64, height: f64) -> String {
        let colours = |column: fn(&(&str, &str, &'static str, &'static str)) -> &'static str| {
            let rules = COLOURS.iter().map(|row| format!("{}{{{}:{}}}", row.0, row.1, column(row)));
            rules.collect::<Vec<_>>().join("\n")
        };
        let (light, dark) = (colours(|row| row.2), colours(|row| row.3));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"Who calls whom in the demo, what travels in mutual TLS, and what policy refused\">\n<style>\n{STYLE}{light}\n@media (prefers-color-scheme:dark){{\n{dark}\n}}\n</style>\n<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"12\"/>\n{}</svg>\n",
            width - 1.0,
            height - 1.0,
            self.0
        )
    }
}
