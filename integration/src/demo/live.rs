//! The demo after its looks: callers call, and a view of it is drawn once a second.
//!
//! On a terminal the view is drawn over itself below what was printed before. No mode of the terminal is changed for it,
//! so that nothing has to be restored, however the demo ends.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::promise::Broken;
use super::screen::{Line, plain, view};
use super::shop::Shop;
use super::traffic::Traffic;
use super::watch::Watch;

/// Time between two drawings.
const TURN: Duration = Duration::from_secs(1);
/// Longest time until the end is noticed.
const NOTICE: Duration = Duration::from_millis(50);
/// Size of a terminal that does not tell: columns and rows.
const USUAL: (usize, usize) = (80, 24);

/// Shows what happens until the lab ends.
pub(super) fn show(shop: &Shop<'_>, title: &str, ended: &AtomicBool) -> Result<(), Broken> {
    let mut watch = Watch::begin(shop.lab);
    let traffic = Traffic::start(shop)?;
    let mut canvas = std::io::stdout().is_terminal().then(Canvas::default);
    let begun = Instant::now();
    while wait(ended) {
        let scene = watch.look(&traffic.seen());
        let frame = match &mut canvas {
            Some(canvas) => {
                let (columns, rows) = size();
                let up = begun.elapsed().as_secs();
                let title = format!("{title} · {}:{:02} · Ctrl-C ends it", up / 60, up % 60);
                // The last row is the cursor's.
                canvas.paint(&view(&title, &scene, (columns, rows.saturating_sub(1))), (columns, rows))
            }
            None => plain(&scene) + "\n",
        };
        let mut out = std::io::stdout().lock();
        // Nobody reads any more: the demo stays up all the same.
        let _written = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
    }
    Ok(())
}

/// Waits for the next turn; whether there is one.
fn wait(ended: &AtomicBool) -> bool {
    let end = Instant::now() + TURN;
    while Instant::now() < end && !ended.load(Ordering::Relaxed) {
        std::thread::sleep(NOTICE);
    }
    !ended.load(Ordering::Relaxed)
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let told = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = told.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(USUAL)
}

/// A part of the terminal that is drawn over itself.
#[derive(Debug, Default)]
struct Canvas {
    /// Lines of the drawing that is there.
    drawn: usize,
    size: (usize, usize),
}

impl Canvas {
    /// What to write so that these lines stand where the last ones were.
    fn paint(&mut self, lines: &[Line], size: (usize, usize)) -> String {
        let mut frame = match self.drawn {
            0 => String::new(),
            // After a change of size nobody knows where the lines are.
            _ if size != self.size => "\u{1b}[2J\u{1b}[H".to_owned(),
            drawn => format!("\r\u{1b}[{drawn}A"),
        };
        for line in lines {
            frame += &line.render(size.0);
            // Clears what an earlier, longer line left.
            frame += "\u{1b}[K\r\n";
        }
        frame += "\u{1b}[J";
        (self.drawn, self.size) = (lines.len(), size);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::Canvas;
    use crate::demo::screen::{Line, Style};

    #[test]
    fn a_drawing_takes_the_place_of_the_one_before_and_changes_no_mode() {
        let lines = |count: usize| vec![Line::default().with(Style::Plain, "x".repeat(200)); count];
        let mut canvas = Canvas::default();
        let frames = [
            canvas.paint(&lines(3), (80, 24)),
            canvas.paint(&lines(2), (80, 24)),
            canvas.paint(&lines(2), (60, 24)),
        ];
        assert!(!frames[0].contains("\u{1b}[3A"));
        assert!(frames[1].starts_with("\r\u{1b}[3A"));
        assert!(frames[2].starts_with("\u{1b}[2J"));
        for (frame, width) in frames.iter().zip([80, 80, 60]) {
            assert!(!frame.contains("\u{1b}[?"), "a mode is changed: {frame:?}");
            assert_eq!(frame.lines().next().map(|line| line.matches('x').count()), Some(width));
        }
    }
}
