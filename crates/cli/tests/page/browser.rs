//! Debian's Chromium without a window, driven over its own protocol (Chrome DevTools Protocol): one WebSocket,
//! a command and its answer at a time.

use std::{
    collections::VecDeque,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, stream::MaybeTlsStream};

use crate::support::wait_until;

/// How long a condition may take to come true.
const MOST_PATIENCE: Duration = Duration::from_secs(120);

/// What is on the page, for the message of a test that waits in vain.
const DESCRIPTION: &str = "(() => { \
    const texts = Object.fromEntries(['#input', '#output', '#connection', '#place', '#states', '#notices', \
        '#inspector-title', '.plan', '#checkpoint-list', 'dialog[open]', '.session'] \
        .map((name) => [name, document.querySelector(name)?.innerText])); \
    return JSON.stringify({ address: location.href, focus: document.activeElement?.outerHTML.slice(0, 120), \
        disabled: [...document.querySelectorAll('button:disabled')].map((one) => one.innerText), ...texts }, null, 1); \
    })()";

/// A running browser with one page open.
pub struct Browser {
    child: Child,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    /// Errors that the page's console and scripts reported.
    errors: VecDeque<String>,
    /// What it sent: method, address, body.
    requests: Vec<[String; 3]>,
    _profile: tempfile::TempDir,
}

/// Where Chromium is; `None`, with a notice, where there is none. In CI that is a failure.
pub fn chromium() -> Option<PathBuf> {
    let found = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "Chromium is missing; script/test installs it (apt-get install chromium)"
        );
        eprintln!("SKIPPED: there is no Chromium; apt-get install chromium, or run script/test");
    }
    found
}

impl Browser {
    /// Opens an empty page of that size.
    pub fn open(program: &PathBuf, width: u32, height: u32) -> Self {
        Self::open_with(program, width, height, &[])
    }

    /// With more arguments for Chromium.
    pub fn open_with(program: &PathBuf, width: u32, height: u32, arguments: &[&str]) -> Self {
        let profile = tempfile::Builder::new().prefix("ptr-chromium-").tempdir().expect("a folder");
        let child = Command::new(program)
            // The sandbox cannot be had by root; the page that is shown is our own.
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--remote-debugging-port=0", "--lang=en-US", "--disable-background-networking"])
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(arguments)
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Chromium starts");
        // Two lines: the port, and the path of the browser's own socket.
        let file = profile.path().join("DevToolsActivePort");
        let lines = || std::fs::read_to_string(&file).ok().filter(|text| text.lines().count() == 2);
        wait_until("Chromium to listen", || lines().is_some());
        let text = lines().expect("it was there");
        let (port, path) = text.split_once('\n').expect("two lines");
        let (socket, _) =
            tungstenite::connect(format!("ws://127.0.0.1:{port}{}", path.trim())).expect("Chromium answers");
        let mut browser = Self {
            child,
            socket,
            session: String::new(),
            next: 0,
            errors: VecDeque::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        browser.resize(width, height);
        browser
    }

    /// Gives the page another size.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Opens a page of its own, whose commands carry the session's name.
    fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached =
            self.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        attached["sessionId"].as_str().expect("a session").clone_into(&mut self.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Opens another tab of the same browser and goes on in it; the one before is what this gives.
    pub fn tab(&mut self) -> String {
        let before = std::mem::take(&mut self.session);
        self.attach();
        before
    }

    /// Goes on in another tab; the one before is what this gives.
    pub fn switch(&mut self, tab: &str) -> String {
        let before = std::mem::replace(&mut self.session, tab.to_owned());
        self.call("Page.bringToFront", json!({}));
        before
    }

    /// Sends a command and waits for its answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(message.to_string())).expect("Chromium listens");
        loop {
            let read = self.socket.read().expect("Chromium answers");
            let Message::Text(text) = read else { continue };
            let mut answer: Value = serde_json::from_str(text.as_str()).expect("JSON");
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.notice(&answer);
        }
    }

    fn notice(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.errors.push_back(parameters["exceptionDetails"]["exception"]["description"].to_string());
            }
            // What was asked of a service that is away, or refused, is reported too; the page says it itself.
            Some("Log.entryAdded")
                if parameters["entry"]["level"] == "error" && parameters["entry"]["source"] != "network" =>
            {
                self.errors.push_back(parameters["entry"]["text"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                let request = &parameters["request"];
                let part = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
                self.requests.push([part("method"), part("url"), part("postData")]);
            }
            _ => {}
        }
    }

    /// What the page reported as errors since it was asked last.
    pub fn errors(&mut self) -> Vec<String> {
        self.eval("1");
        self.errors.drain(..).collect()
    }

    /// What the browser's pages sent since this was asked last: method, address, body.
    pub fn requests(&mut self) -> Vec<[String; 3]> {
        self.eval("1");
        std::mem::take(&mut self.requests)
    }

    /// Goes to an address and waits until the page is there.
    pub fn go(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
        self.wait_for("document.readyState === 'complete' && location.protocol !== 'about:'");
    }

    /// The value of an expression; of a promise, what it gives.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// The text of the first element that the selector finds, empty where there is none.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let value = self.eval(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true. It may fail while the page is being loaded.
    #[track_caller]
    pub fn wait_for(&mut self, condition: &str) {
        let start = Instant::now();
        while self.ask(&format!("Boolean({condition})")) != true {
            // What the page says then is what a reader of the failure needs.
            assert!(
                start.elapsed() < MOST_PATIENCE,
                "waited {MOST_PATIENCE:?} for {condition}\nthe page: {}\nits errors: {:?}",
                self.ask(DESCRIPTION),
                self.errors
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The value of an expression, null where it fails.
    #[track_caller]
    fn ask(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true});
        self.call("Runtime.evaluate", parameters)["result"]["value"].take()
    }

    /// Waits until an element's text contains this.
    #[track_caller]
    pub fn wait_for_text(&mut self, selector: &str, text: &str) {
        self.wait_for(&format!("document.querySelector({selector:?})?.innerText.includes({text:?})"));
    }

    /// Clicks the middle of an element with the mouse.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        self.wait_for(&format!("document.querySelector({selector:?})"));
        self.click_found(&format!("document.querySelector({selector:?})"));
    }

    /// Clicks the first button with this text inside of an element.
    #[track_caller]
    pub fn click_button(&mut self, within: &str, text: &str) {
        let found = format!(
            "[...document.querySelectorAll({:?})].find((one) => one.innerText.includes({text:?}) && !one.disabled)",
            format!("{within} button")
        );
        self.wait_for(&found);
        self.click_found(&found);
    }

    /// Clicks what the expression gives, once nothing lies over it.
    #[track_caller]
    fn click_found(&mut self, found: &str) {
        let place = format!(
            "(() => {{ const one = {found}; one.scrollIntoView({{block: 'nearest'}}); \
             const box = one.getBoundingClientRect(); const place = [box.x + box.width / 2, box.y + box.height / 2]; \
             return one.contains(document.elementFromPoint(...place)) && place; }})()"
        );
        // And once it stands still: what appears or goes above it would move it from under the mouse.
        let mut last = Value::Bool(false);
        wait_until(&format!("{found} to stand still"), || {
            let before = std::mem::replace(&mut last, self.eval(&place));
            last.is_array() && last == before
        });
        let place = last;
        self.mouse("mousePressed", &place);
        self.mouse("mouseReleased", &place);
    }

    fn mouse(&mut self, kind: &str, place: &Value) {
        let parameters =
            json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
        self.call("Input.dispatchMouseEvent", parameters);
    }

    /// Drags from one place to another, in pixels of the window.
    pub fn drag(&mut self, from: [f64; 2], to: [f64; 2]) {
        self.mouse("mousePressed", &json!(from));
        self.mouse("mouseMoved", &json!([f64::midpoint(from[0], to[0]), f64::midpoint(from[1], to[1])]));
        self.mouse("mouseMoved", &json!(to));
        self.mouse("mouseReleased", &json!(to));
    }

    /// Turns the wheel over a place, by pixels.
    pub fn wheel(&mut self, place: [f64; 2], by: f64) {
        let parameters =
            json!({"type": "mouseWheel", "x": place[0], "y": place[1], "deltaX": 0, "deltaY": by});
        self.call("Input.dispatchMouseEvent", parameters);
    }

    /// Presses a key, as `KeyboardEvent.key` names it.
    pub fn key(&mut self, key: &str) {
        self.press(key, 0);
    }

    /// Presses it with Shift held.
    pub fn key_with_shift(&mut self, key: &str) {
        self.press(key, 8);
    }

    fn press(&mut self, key: &str, modifiers: u8) {
        let text = match key {
            "Enter" => Some("\r"),
            one if one.chars().count() == 1 => Some(one),
            _ => None,
        };
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            _ => 0,
        };
        let mut down =
            json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers});
        if let Some(text) = text {
            down["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}),
        );
    }

    /// Holds back the answers to requests of this method and path until [`Self::release`].
    pub fn hold(&mut self, method: &str, path: &str) {
        self.eval(&format!(
            "{{ const real = window.fetch; const held = new Promise((done) => window.release = () => {{ window.fetch = real; done(); }}); \
             window.held = 0; window.fetch = async (path, how) => {{ const answer = await real(path, how); \
             if ((how?.method ?? 'GET') === {method:?} && path.startsWith({path:?})) {{ window.held += 1; await held; }} return answer; }} }}"
        ));
    }

    /// Lets the answers go that are held back.
    pub fn release(&mut self) {
        self.eval("window.release()");
    }

    /// What a click puts into the clipboard, once it is there.
    #[track_caller]
    pub fn copied_by(&mut self, within: &str, button: &str) -> String {
        let page = std::mem::take(&mut self.session);
        let allowed = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
        self.call("Browser.grantPermissions", allowed);
        self.session = page;
        self.call("Page.bringToFront", json!({}));
        // The clipboard is of the page that has the focus, which another window must not take away.
        self.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
        self.eval(
            "if (!('copied' in window)) {
                const write = navigator.clipboard.writeText.bind(navigator.clipboard);
                navigator.clipboard.writeText = async (text) => { await write(text); window.copied = text; };
            }
            window.copied = null",
        );
        // What comes in later moves the buttons.
        self.wait_for(
            "document.querySelector('.plan')?.innerText && document.querySelector('#inspector .change')",
        );
        self.click_button(within, button);
        self.wait_for("window.copied !== null");
        self.eval("window.copied").as_str().expect("a text").to_owned()
    }

    /// Writes text where the focus is.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Runs a script in each page that is opened from now on, before the page's own, until it is taken away.
    pub fn before_each_page(&mut self, script: &str) -> Value {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}))
    }

    /// Takes such a script away.
    pub fn no_longer(&mut self, script: Value) {
        self.call("Page.removeScriptToEvaluateOnNewDocument", script);
    }

    /// Each renderer's process, with the CPU time that it has used.
    pub fn renderers(&mut self) -> Vec<(u64, f64)> {
        let page = std::mem::take(&mut self.session);
        let all = self.call("SystemInfo.getProcessInfo", json!({}));
        self.session = page;
        let all = all["processInfo"].as_array().expect("processes").clone();
        let renderers = all.iter().filter(|one| one["type"] == "renderer");
        renderers
            .map(|one| (one["id"].as_u64().expect("an id"), one["cpuTime"].as_f64().expect("a time")))
            .collect()
    }

    /// What is in sight, as PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", json!({"format": "png"}));
        BASE64_STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64")
    }

    /// `light` or `dark`.
    pub fn scheme(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
