//! A client of the API that keeps its one connection, and adds as little as can be to what is measured.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
};

use serde_json::Value;

pub struct Api {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Api {
    /// Of the service that runs on a data directory.
    pub fn of(data_directory: &Path) -> Self {
        let path = data_directory.join("run").join("service.json");
        let file = std::fs::read(&path).expect("a running service");
        let running: Value = serde_json::from_slice(&file).expect("JSON");
        let address = running["address"].as_str().expect("an address");
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let token = running["token"].as_str().expect("a token").to_owned();
        Self { stream: BufReader::new(stream), token }
    }

    /// Sends a request, and reads its answer to the end.
    pub fn post(&mut self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("a request");
        let (mut line, mut status, mut length) = (String::new(), String::new(), 0);
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a line");
            if status.is_empty() {
                status = line.trim().to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).expect("an answer");
        assert!(status.contains(" 20"), "{path} {body}: {status} {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).expect("JSON")
    }
}
