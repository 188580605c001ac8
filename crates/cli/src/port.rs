//! A port in use: whose it is, and one that is free.

use std::{
    fs, io,
    net::{TcpListener, ToSocketAddrs},
};

use ptr_server::configuration::Address;

use crate::failure::{Failure, Kind};

/// How far above a port in use a free one is looked for.
const NEARBY: u16 = 50;

/// Fails where the address cannot be listened on, before anything is started for it.
pub fn check(address: &Address) -> Result<(), Failure> {
    match listen(&address.host, address.port) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let owner = owner(address.port).map_or_else(String::new, |owner| format!(" by {owner}"));
            let failure = Failure::new(Kind::Precondition, format!("port {} is in use{owner}", address.port));
            Err(match free_nearby(address) {
                Some(port) => {
                    let free = Address { port, ..address.clone() };
                    failure.hint(format!("port {port} is free: --addr {free}"))
                }
                None => failure.hint("choose another with --addr HOST:PORT"),
            })
        }
        Err(error) => Err(Failure::new(Kind::Usage, format!("cannot listen on {address}: {error}"))
            .hint("--addr takes an address of this machine, such as 127.0.0.1:8080")),
    }
}

fn listen(host: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn free_nearby(address: &Address) -> Option<u16> {
    (1..=NEARBY)
        .filter_map(|above| address.port.checked_add(above))
        .find(|port| listen(&address.host, *port).is_ok())
}

/// The process that listens on a port, as far as `/proc` tells: `name (pid 42)`. Processes of other users, and
/// other systems than Linux, stay unknown.
fn owner(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| listening_inode(line, port)).map(str::to_owned)
    })?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds =
            |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == socket.as_str());
        if files.flatten().any(holds) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// The socket's inode of a line of `/proc/net/tcp` (proc_pid_net(5)), if it listens (state `0A`) on the port.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local_port, 16) == Ok(port);
    listens.then(|| fields.get(9).copied()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_names_its_process_and_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address { host: "127.0.0.1".into(), port: taken.local_addr().unwrap().port() };
        let failure = format!("{:?}", check(&address).unwrap_err());
        assert!(failure.contains(&format!("pid {}", std::process::id())), "{failure}");
        assert!(failure.contains("is free"), "{failure}");
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0";
        assert_eq!(listening_inode(line, 8080), Some("4711"));
        assert_eq!(listening_inode(line, 8081), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 8080), None);
    }
}
