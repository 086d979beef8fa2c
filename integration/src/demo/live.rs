//! The demo after its looks: load on the shop, and a line of rates a second.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::promise::Broken;
use super::shop::{Shop, Wanted};
use crate::component::Component;
use crate::load::{Connections, Load, Outcome};

/// Requests a second.
const RATE: f64 = 200.0;
/// Those of the batch pod, all to be refused.
const REFUSED: usize = 10;

/// Shows rates until the lab ends.
pub(super) fn rates(shop: &Shop<'_>, ended: &AtomicBool) -> Result<(), Broken> {
    let to = shop.service("shop/web")?;
    let terminal = std::io::stdout().is_terminal();
    while !ended.load(Ordering::Relaxed) {
        let mut load = Load::new(to);
        load.rate = Some(RATE);
        load.time = Duration::from_secs(1);
        load.width = 8;
        load.timeout = Duration::from_secs(2);
        load.connections = Connections::OnePerRequest;
        let running = shop.lab.thread_in(&shop.client, move || load.run());
        let refused = shop.ask(&shop.batch, to, REFUSED, Wanted::Refused).as_wanted;
        let outcome = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        if ended.load(Ordering::Relaxed) {
            break;
        }
        show(&line(shop, &outcome, refused), terminal);
    }
    Ok(())
}

fn line(shop: &Shop<'_>, outcome: &Outcome, refused: usize) -> String {
    let [p50, _, p99, ..] = outcome.microseconds;
    let open: usize = [&shop.client]
        .iter()
        .filter_map(|pod| shop.lab.metrics(Component::Ztunnel(pod.node)).ok())
        .map(|samples| samples.sum("istio_tcp_connections_opened_total", &[("reporter", "source")]) as usize)
        .sum();
    format!(
        "client → web {:>3.0}/s  p50 {:.1} ms  p99 {:.1} ms  failed {}   batch → web refused {refused} of {REFUSED}   connections since the start {open}",
        outcome.good as f64 / outcome.seconds.max(0.001),
        f64::from(p50) / 1000.0,
        f64::from(p99) / 1000.0,
        outcome.failures(),
    )
}

/// On a terminal the line stays in its place.
fn show(line: &str, terminal: bool) {
    let mut out = std::io::stdout();
    let _written = match terminal {
        // Clears what an earlier, longer line left.
        true => write!(out, "\r{line}\u{1b}[K"),
        false => writeln!(out, "{line}"),
    };
    let _flushed = out.flush();
}
