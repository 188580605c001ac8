//! What a starting service tells the person who waits for it.

use tokio::sync::mpsc;

use crate::resource::navigation::Progress;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// What is done next, before it is done.
    Step(String),
    /// How far the step is.
    Progress(Progress),
    /// What the user should know.
    Warning(String),
}

/// Where announcements go; they are dropped where nobody listens.
#[derive(Debug, Clone, Default)]
pub struct Announcer(Option<mpsc::UnboundedSender<Announcement>>);

impl Announcer {
    /// To this channel.
    #[must_use]
    pub fn to(channel: mpsc::UnboundedSender<Announcement>) -> Self {
        Self(Some(channel))
    }

    /// To nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self(None)
    }

    pub(super) fn announce(&self, announcement: Announcement) {
        if let Some(channel) = &self.0 {
            // The listener may have stopped reading; then nobody wants to know.
            let _ = channel.send(announcement);
        }
    }

    pub(super) fn step(&self, text: impl Into<String>) {
        self.announce(Announcement::Step(text.into()));
    }

    pub(super) fn warn(&self, text: impl Into<String>) {
        self.announce(Announcement::Warning(text.into()));
    }
}
