//! Addresses by role, so that a client's address is never handed over as a server's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Defines one role: a socket address, stored with IPv4-mapped IPv6 folded to IPv4.
macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SocketAddr);

        impl $name {
            /// Makes one; an IPv4-mapped IPv6 address becomes IPv4.
            pub fn new(ip: IpAddr, port: u16) -> Self {
                Self(SocketAddr::new(ip.to_canonical(), port))
            }

            /// The plain address.
            pub fn get(self) -> SocketAddr {
                self.0
            }

            /// The IP.
            pub fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The port.
            pub fn port(self) -> u16 {
                self.0.port()
            }
        }

        impl From<SocketAddr> for $name {
            fn from(address: SocketAddr) -> Self {
                Self::new(address.ip(), address.port())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

role! {
    /// Who connected to us.
    ClientAddr
}
role! {
    /// What the client dialled before redirection.
    OriginalDst
}
role! {
    /// Whom we connect to.
    ServerAddr
}
role! {
    /// The address on our end of an accepted connection.
    LocalAddr
}

#[cfg(test)]
mod tests {
    use super::ClientAddr;
    use std::net::SocketAddr;

    #[test]
    fn mapped_addresses_are_folded() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(ClientAddr::from(mapped).to_string(), "10.0.0.1:80");
        let real: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(ClientAddr::from(real).get(), real);
    }
}
