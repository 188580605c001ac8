//! Answers that many ask for at once: whoever waited while one was looked for takes the next one together with all others
//! that wait, so that two hundred who ask for the status cost the servers two looks and not two hundred.

use std::time::Instant;

use tokio::sync::Mutex;

/// The last answer, and when it was begun.
#[derive(Debug)]
pub(super) struct Latest<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Latest<T> {
    /// An answer that was begun after this was called: by `look`, or by somebody else meanwhile.
    pub(super) async fn get<E>(&self, look: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((begun, answer)) = last.as_ref().filter(|(begun, _)| *begun >= asked) {
            tracing::trace!(?begun, "an answer is shared");
            return Ok(answer.clone());
        }
        let begun = Instant::now();
        let answer = look.await?;
        *last = Some((begun, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_share_one_answer_that_is_not_older_than_their_question() {
        let (latest, looks) = (Arc::new(Latest::default()), Arc::new(AtomicU32::new(0)));
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (latest, looks) = (Arc::clone(&latest), Arc::clone(&looks));
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            tokio::spawn(async move {
                let look = async {
                    let number = looks.fetch_add(1, Ordering::SeqCst);
                    begun.add_permits(1);
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, Infallible>(number)
                };
                latest.get(look).await.unwrap()
            })
        };
        let first = ask();
        begun.acquire().await.unwrap().forget();
        // They ask while the first answer is on its way, which may be too old for them.
        let others: Vec<_> = (0..100).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(1);
        assert_eq!(first.await.unwrap(), 0);
        gate.add_permits(100);
        for other in others {
            assert_eq!(other.await.unwrap(), 1);
        }
        assert_eq!(looks.load(Ordering::SeqCst), 2);
    }
}
