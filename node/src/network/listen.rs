use std::{
    io,
    net::{IpAddr, TcpListener},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// libp2p shares its ports: a second node on one port would start, and each would get some of the other's connections.
pub(super) fn check_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}
