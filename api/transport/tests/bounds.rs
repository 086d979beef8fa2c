//! Bounds on the kernel's buffers are in force on what is accepted and on what is dialled. A program of its own, because
//! they hold for a whole process.
#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; clippy exempts only the test functions themselves"
)]

use ambit_process::overload::Sizes;
use ambit_transport::addr::ServerAddr;
use ambit_transport::buffer;
use ambit_transport::socket::{self, DialOptions, ListenOptions, Listener, Netns, Transparent};
use socket2::SockRef;

/// Receive and send buffers of an accepted and a dialled socket, in bytes.
async fn buffers() -> [usize; 4] {
    let netns = Netns::current().unwrap();
    let options = ListenOptions { transparent: Transparent::Off, ..ListenOptions::default() };
    let listener = socket::listen(&netns, "127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let listener = Listener::new(listener).unwrap();
    let to = ServerAddr::from(listener.local_addr().unwrap().get());
    let dialled = socket::dial(&netns, to, &DialOptions::default()).await.unwrap();
    let (accepted, _client) = listener.accept().await;
    let (accepted, dialled) = (SockRef::from(&accepted), SockRef::from(&dialled));
    [
        accepted.recv_buffer_size().unwrap(),
        accepted.send_buffer_size().unwrap(),
        dialled.recv_buffer_size().unwrap(),
        dialled.send_buffer_size().unwrap(),
    ]
}

#[tokio::test]
async fn sockets_have_the_buffers_that_the_ceiling_leaves_them() {
    let free = buffers().await;
    let bounded = Sizes::within(Some(64 << 20));
    buffer::bound(&bounded);
    // The kernel counts its own headers too, and takes twice as much for that.
    let twice = 2 * bounded.kernel_buffer.unwrap();
    assert_eq!(buffers().await, [twice; 4]);
    buffer::bound(&Sizes::within(None));
    assert_eq!(buffers().await, free, "without a ceiling the kernel chooses");
}
