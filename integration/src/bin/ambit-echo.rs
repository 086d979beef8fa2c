//! `ambit-echo`: what the image ambit/echo runs on a cluster, with the flags that it has in the lab.

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    std::process::exit(ambit_lab::standin::image(&arguments));
}
