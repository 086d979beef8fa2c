//! WebSocket on any path: every message comes back as it was sent.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::standin::serve::{Answer, whole};
use crate::websocket::{Frame, Kind, Side, accept, read, write};

/// The answer to a handshake; none for any other request.
pub(super) fn upgrade<B>(request: &Request<B>) -> Option<Response<Answer>> {
    let headers = request.headers();
    let wanted = headers.get("upgrade")?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = headers.get("sec-websocket-key").filter(|_key| wanted)?;
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let head = response.headers_mut();
    head.insert("connection", HeaderValue::from_static("upgrade"));
    head.insert("upgrade", HeaderValue::from_static("websocket"));
    head.insert("sec-websocket-accept", accept(key.as_bytes()).parse().ok()?);
    Some(response)
}

/// Serves the socket once the answer is sent.
pub(super) fn serve(request: Request<Incoming>) {
    ambit_process::spawn::spawn_local("websocket", async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        // How a client leaves is the client's affair.
        let _ended = echo(TokioIo::new(upgraded)).await;
    });
}

async fn echo(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let frame = read(&mut stream).await?;
        match frame.kind {
            Kind::Close => return write(&mut stream, Side::Server, &frame).await,
            Kind::Ping => {
                write(&mut stream, Side::Server, &Frame::whole(Kind::Pong, frame.payload)).await?;
            }
            Kind::Pong => {}
            Kind::Continued | Kind::Text | Kind::Binary => {
                write(&mut stream, Side::Server, &frame).await?;
            }
        }
    }
}
