//! A client of the API that keeps its one connection, and adds as little as can be to what is measured.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

pub struct Api {
    address: String,
    stream: BufReader<TcpStream>,
    last_used: Instant,
}

/// A connection that is silent for longer may have been closed.
const FRESH: Duration = Duration::from_secs(10);

/// What a server may take for a transaction of ten million rows.
const LONGEST_DECODING: Duration = Duration::from_secs(1_200);

/// An answer, whatever it says.
pub struct Answer {
    pub status: u16,
    #[allow(dead_code, reason = "each bench uses its own part")]
    pub retry_after: bool,
    pub body: Vec<u8>,
}

impl Api {
    /// Of the service that runs on a data directory.
    pub fn of(data_directory: &Path) -> Self {
        let path = data_directory.join("run").join("service.json");
        let file = std::fs::read(&path).expect("a running service");
        let running: Value = serde_json::from_slice(&file).expect("JSON");
        let address = running["address"].as_str().expect("an address").to_owned();
        Self { stream: connect(&address), address, last_used: Instant::now() }
    }

    /// Sends a request, and reads its answer to the end.
    pub fn post(&mut self, path: &str, body: &Value) -> Value {
        self.call("POST", path, &body.to_string())
    }

    #[allow(dead_code, reason = "each bench uses its own part")]
    pub fn get(&mut self, path: &str) -> Value {
        self.call("GET", path, "")
    }

    /// Makes a checkpoint of now, asked for again while the server still decodes a large transaction.
    #[allow(dead_code, reason = "each bench uses its own part")]
    pub fn checkpoint(&mut self, name: &str) {
        let body = serde_json::json!({ "name": name }).to_string();
        let deadline = Instant::now() + LONGEST_DECODING;
        loop {
            let answer = self.ask("POST", "/api/checkpoints", &body);
            let said = String::from_utf8_lossy(&answer.body);
            match answer.status {
                200..300 => return,
                409 if said.contains("did not come to this moment") && Instant::now() < deadline => {}
                status => panic!("checkpoint {name}: {status} {said}"),
            }
        }
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> Value {
        let Answer { status, body: answer, .. } = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{path} {body}: {status} {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).expect("JSON")
    }

    /// Sends a request, and gives whatever the answer is.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        if self.last_used.elapsed() > FRESH {
            self.stream = connect(&self.address);
        }
        let answer = self.exchange(method, path, body);
        self.last_used = Instant::now();
        answer
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("a request");
        let (mut status, mut length, mut retry_after) = (None, None, false);
        loop {
            let line = self.line();
            if status.is_none() {
                status = line.split(' ').nth(1).map(|code| code.parse().expect("a status"));
            }
            retry_after |= line.to_ascii_lowercase().starts_with("retry-after:");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse().expect("a length"));
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = Vec::new();
        match length {
            Some(length) => self.take(length, &mut answer),
            // In chunks: each after a line with its length, the last one empty.
            None => loop {
                let length = usize::from_str_radix(self.line().trim(), 16).expect("a chunk's length");
                self.take(length, &mut answer);
                self.line();
                if length == 0 {
                    break;
                }
            },
        }
        Answer { status: status.expect("a status"), retry_after, body: answer }
    }

    /// Opens the stream of events, and counts what comes until the time is over.
    #[allow(dead_code, reason = "each bench uses its own part")]
    pub fn count_events(mut self, until: Instant) -> Result<u64, String> {
        let request = "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let broken = |error: std::io::Error| error.to_string();
        self.stream.get_mut().write_all(request.as_bytes()).map_err(broken)?;
        let status = self.line();
        if !status.contains(" 200 ") {
            return Err(status);
        }
        let mut events = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(events);
            }
            self.stream.get_ref().set_read_timeout(Some(left)).map_err(broken)?;
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return Err("the stream ended".to_owned()),
                Ok(_) => events += u64::from(line.starts_with("event:")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(events),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line
    }

    fn take(&mut self, length: usize, answer: &mut Vec<u8>) {
        let before = answer.len();
        answer.resize(before + length, 0);
        self.stream.read_exact(&mut answer[before..]).expect("an answer");
    }
}

fn connect(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    BufReader::new(stream)
}
