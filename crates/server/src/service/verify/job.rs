//! Verifications under way and the last ones that ended, of this process.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex},
};

use ptr_log::Session;
use ptr_postgres::Dsn;
use ptr_replay::verify::{VerifyProgress, end_sessions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    resource::{
        event::Event,
        navigation::Progress,
        verification::{VerificationAnswer, VerificationState, Verified, Verify},
    },
    service::{APPLICATION_NAME, Service, ServiceError, lock, now},
};

use super::stopped;

/// Ended verifications that can still be asked for.
const KEPT: usize = 20;

/// The most connections to one side.
const MOST_JOBS: usize = 32;

/// What a request to verify came to.
#[derive(Debug)]
pub enum Verification {
    /// It was compared.
    Done(Box<Verified>),
    /// It goes on in the background.
    UnderWay(Box<VerificationAnswer>),
}

/// The verifications of this process, newest first.
#[derive(Default)]
pub(in crate::service) struct Verifications(Mutex<VecDeque<Known>>);

struct Known {
    answer: watch::Receiver<VerificationAnswer>,
    cancel: CancellationToken,
}

impl Verifications {
    fn add(&self, known: Known) {
        let mut all = lock(&self.0);
        all.push_front(known);
        let mut kept = 0;
        all.retain(|one| {
            let running = one.answer.borrow().state == VerificationState::Running;
            kept += usize::from(!running);
            running || kept <= KEPT
        });
    }
}

/// A verification as it goes on.
pub(in crate::service) struct Job {
    answer: watch::Sender<VerificationAnswer>,
    /// How far the comparison is.
    pub(super) compared: watch::Sender<VerifyProgress>,
    pub(super) cancel: CancellationToken,
    /// Of its sessions.
    pub(super) application_name: String,
}

impl Job {
    pub(super) fn step(&self, step: &str) {
        self.tell(Progress { step: step.into(), done: 0, total: None, unit: String::new() });
    }

    pub(super) fn tell(&self, progress: Progress) {
        self.answer.send_modify(|answer| answer.progress = Some(progress));
    }

    /// Ends what the comparison still has running on these servers.
    pub(super) async fn end_sessions(&self, servers: &[&Dsn]) {
        for dsn in servers {
            if let Err(error) = end_sessions(dsn, &self.application_name).await {
                tracing::warn!(%error, %dsn, "sessions of a verification that was stopped may go on");
            }
        }
    }

    /// Runs a comparison, telling how far it is.
    pub(super) async fn told<T>(&self, comparison: impl Future<Output = T>) -> T {
        let mut watched = self.compared.subscribe();
        let telling = async {
            while watched.changed().await.is_ok() {
                let VerifyProgress { step, done, total } = watched.borrow_and_update().clone();
                self.tell(Progress { step, done, total: Some(total), unit: "pages".into() });
            }
            std::future::pending().await
        };
        tokio::select! {
            outcome = comparison => outcome,
            () = telling => unreachable!("it is told until the comparison is over"),
        }
    }
}

impl Service {
    /// `POST /api/verify`.
    ///
    /// # Errors
    /// Nobody captures, a server does not answer, the primary's schema does not hold still, no such session or
    /// checkpoint, a checkpoint without hashes.
    pub async fn verify(self: &Arc<Self>, request: Verify) -> Result<Verification, ServiceError> {
        if request.jobs.is_some_and(|jobs| !(1..=MOST_JOBS).contains(&jobs)) {
            return Err(ServiceError::usage(format!("jobs is 1 to {MOST_JOBS}"), "leave it out for 2"));
        }
        let id = self.id_of(&request)?;
        let turn = self.turn_to_copy()?;
        let session = self.session_named(request.session_id.as_deref()).await?;
        let first = VerificationAnswer {
            id: id.to_string(),
            session_id: session.id.to_string(),
            state: VerificationState::Running,
            progress: None,
            result: None,
            error: None,
            started_at: now().to_string(),
        };
        let (answer, watched) = watch::channel(first.clone());
        let cancel = self.shutdown.child_token();
        self.verifications.add(Known { answer: watched, cancel: cancel.clone() });
        let application_name = format!("{APPLICATION_NAME} {id}");
        let compared = watch::channel(VerifyProgress::default()).0;
        let job = Job { answer, compared, cancel, application_name };
        let background = request.background;
        let service = Arc::clone(self);
        // Its own task: it goes on when whoever asked goes away, and DELETE ends it.
        let task = self.spawn(async move { service.run_verification(session, request, job, turn).await });
        if background {
            return Ok(Verification::UnderWay(Box::new(first)));
        }
        let joined = task.await;
        let outcome = joined.map_err(|error| ServiceError::Broken {
            detail: format!("the verification's task ended: {error}"),
        })?;
        Ok(Verification::Done(Box::new(outcome?)))
    }

    fn id_of(&self, request: &Verify) -> Result<Uuid, ServiceError> {
        let Some(text) = &request.id else { return Ok(Uuid::now_v7()) };
        let unfit =
            |what: &str| ServiceError::usage(format!("id {text:?} {what}"), "leave it out for one of ours");
        let id: Uuid = text.parse().map_err(|_| unfit("is no UUID"))?;
        match self.verification(&id.to_string()) {
            Ok(_) => Err(unfit("is that of another verification")),
            Err(_) => Ok(id),
        }
    }

    async fn run_verification(
        &self,
        session: Session,
        request: Verify,
        job: Job,
        turn: impl Future<Output: Send> + Send,
    ) -> Result<Verified, ServiceError> {
        job.step("waiting until others are done");
        let turn = job.cancel.run_until_cancelled(turn).await;
        let outcome = match (&turn, &request.at) {
            (None, _) => Err(stopped()),
            (Some(_), Some(checkpoint)) => self.compare_with_kept(&session, checkpoint, &request, &job).await,
            (Some(_), None) => self.compare_with_primary(&session, &request, &job).await,
        };
        drop(turn);
        job.answer.send_modify(|answer| {
            answer.progress = None;
            match &outcome {
                Ok(verified) => {
                    answer.state = VerificationState::Done;
                    answer.result = Some(verified.clone());
                }
                Err(error) => {
                    answer.state = VerificationState::Failed;
                    answer.error = Some(error.to_string());
                }
            }
        });
        let verification = job.answer.borrow().clone();
        self.tell(Event::Verification { verification });
        outcome
    }

    /// `GET /api/verifications`: newest first.
    pub fn verifications(&self) -> Vec<VerificationAnswer> {
        lock(&self.verifications.0).iter().map(|known| known.answer.borrow().clone()).collect()
    }

    /// `GET /api/verifications/{id}`.
    ///
    /// # Errors
    /// There is none of that id in this process.
    pub fn verification(&self, id: &str) -> Result<VerificationAnswer, ServiceError> {
        let found = self.verifications().into_iter().find(|known| known.id == id);
        found.ok_or_else(|| ServiceError::not_found("verification", id, "GET /api/verifications lists them"))
    }

    /// `DELETE /api/verifications/{id}`: asks it to end.
    ///
    /// # Errors
    /// There is none of that id in this process.
    pub fn cancel_verification(&self, id: &str) -> Result<VerificationAnswer, ServiceError> {
        if let Some(known) = lock(&self.verifications.0).iter().find(|known| known.answer.borrow().id == id) {
            known.cancel.cancel();
        }
        self.verification(id)
    }
}
