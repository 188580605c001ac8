//! What a service is started for.

/// What a service is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything: embedded servers, capture, API.
    Up,
    /// Capture only.
    Listener,
    /// API only; capture may run in another process.
    Ipc,
    /// One command without a service: opens what is there and starts nothing.
    Offline,
}

impl Role {
    /// Its name in `run/service.json` and in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Listener => "listener",
            Self::Ipc => "ipc",
            Self::Offline => "offline",
        }
    }

    pub(super) fn captures(self) -> bool {
        matches!(self, Self::Up | Self::Listener)
    }

    pub(super) fn serves(self) -> bool {
        matches!(self, Self::Up | Self::Ipc)
    }

    /// Whether embedded servers are made, started, and at the end stopped.
    pub(super) fn makes_things(self) -> bool {
        matches!(self, Self::Up)
    }
}
