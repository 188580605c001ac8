//! The catalog keeps its promises, also with several users at once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::os::unix::fs::PermissionsExt;

use ptr_log::{
    Catalog, CatalogError, Checkpoint, CheckpointKind, MoveOutcome, MoveStep, NewCheckpoint, NewMove,
    NewSession, Session,
};
use ptr_model::{CheckpointId, Lsn, Position, SessionId, Timestamp};
use tempfile::TempDir;
use uuid::Uuid;

fn catalog() -> (TempDir, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&folder.path().join("data/catalog.sqlite")).unwrap();
    (folder, catalog)
}

fn position(ordinal: u64) -> Position {
    Position { ordinal, lsn: Lsn(u64::MAX - 100 + ordinal), entry_index: 2 * ordinal }
}

fn new_checkpoint(name: &str, ordinal: u64) -> NewCheckpoint {
    NewCheckpoint {
        name: name.to_owned(),
        database: "shop".to_owned(),
        description: "why".to_owned(),
        position: position(ordinal),
        session_id: None,
        hash: None,
    }
}

fn new_session(name: &str) -> NewSession {
    NewSession {
        name: name.to_owned(),
        description: String::new(),
        database: "shop".to_owned(),
        target_database: format!("shop_{name}"),
    }
}

fn names(checkpoints: &[Checkpoint]) -> Vec<&str> {
    checkpoints.iter().map(|checkpoint| checkpoint.name.as_str()).collect()
}

#[test]
fn a_checkpoint_is_kept_found_renamed_and_deleted() {
    let (folder, catalog) = catalog();
    let made = catalog.create_checkpoint(&new_checkpoint("before", 3)).unwrap();
    let other = Catalog::open(&folder.path().join("data/catalog.sqlite")).unwrap();
    assert_eq!(other.find_checkpoint("shop", "before").unwrap(), Some(made.clone()));
    assert_eq!(other.find_checkpoint("shop", &made.id.to_string()).unwrap(), Some(made.clone()));
    assert_eq!(other.find_checkpoint("other", "before").unwrap(), None);
    let renamed = catalog.rename_checkpoint(made.id, "earlier").unwrap();
    assert_eq!(other.checkpoint(made.id).unwrap(), renamed);
    catalog.describe_checkpoint(made.id, "because").unwrap();
    assert_eq!(catalog.set_checkpoint_hash(made.id, "abc").unwrap().description, "because");
    catalog.delete_checkpoint(made.id).unwrap();
    assert!(matches!(other.checkpoint(made.id), Err(CatalogError::NotFound { .. })));
    assert!(matches!(catalog.delete_checkpoint(made.id), Err(CatalogError::NotFound { .. })));
}

#[test]
fn names_are_unique_in_a_database_and_no_other_form_of_a_position() {
    let (_folder, catalog) = catalog();
    catalog.create_checkpoint(&new_checkpoint("one", 1)).unwrap();
    let two = catalog.create_checkpoint(&new_checkpoint("two", 2)).unwrap();
    let again = catalog.create_checkpoint(&new_checkpoint("one", 9));
    assert!(matches!(again, Err(CatalogError::NameTaken { .. })));
    assert!(matches!(catalog.rename_checkpoint(two.id, "one"), Err(CatalogError::NameTaken { .. })));
    let elsewhere = NewCheckpoint { database: "other".to_owned(), ..new_checkpoint("one", 1) };
    catalog.create_checkpoint(&elsewhere).unwrap();
    for name in ["head", "@-1", "0/16B3748", "CREATION", "migration", ""] {
        assert!(
            matches!(catalog.create_checkpoint(&new_checkpoint(name, 1)), Err(CatalogError::Name(_))),
            "{name}"
        );
        assert!(matches!(catalog.rename_checkpoint(two.id, name), Err(CatalogError::Name(_))), "{name}");
    }
}

#[test]
fn creation_and_migration_are_always_there_and_stay() {
    let (_folder, catalog) = catalog();
    for _ in 0..2 {
        catalog.ensure_fixed_checkpoints("shop", position(0), Timestamp(5)).unwrap();
    }
    catalog.create_checkpoint(&new_checkpoint("manual", 4)).unwrap();
    let all = catalog.checkpoints(Some("shop")).unwrap();
    assert_eq!(names(&all), ["CREATION", "MIGRATION", "manual"]);
    assert_eq!(all[0].kind, CheckpointKind::Creation);
    for fixed in &all[..2] {
        assert!(matches!(catalog.delete_checkpoint(fixed.id), Err(CatalogError::Fixed { .. })));
        assert!(matches!(catalog.rename_checkpoint(fixed.id, "mine"), Err(CatalogError::Fixed { .. })));
    }
    assert_eq!(catalog.find_checkpoint("shop", "Creation").unwrap().unwrap().id, all[0].id);
}

#[test]
fn a_pinned_migration_stays_until_it_is_let_go() {
    let (_folder, catalog) = catalog();
    catalog.ensure_fixed_checkpoints("shop", position(0), Timestamp(5)).unwrap();
    assert_eq!(catalog.set_migration("shop", position(3)).unwrap().position, position(3));
    let pinned = catalog.pin_migration("shop", position(7)).unwrap();
    assert!(pinned.pinned);
    assert_eq!(catalog.set_migration("shop", position(4)).unwrap(), pinned);
    catalog.ensure_fixed_checkpoints("shop", position(0), Timestamp(5)).unwrap();
    assert_eq!(catalog.find_checkpoint("shop", "MIGRATION").unwrap(), Some(pinned));
    let free = catalog.unpin_migration("shop", position(4)).unwrap();
    assert_eq!((free.pinned, free.position), (false, position(4)));
    assert!(matches!(catalog.pin_migration("unknown", position(1)), Err(CatalogError::NotFound { .. })));
}

fn active(catalog: &Catalog) -> Vec<String> {
    catalog
        .sessions()
        .unwrap()
        .into_iter()
        .filter(|session| session.active)
        .map(|session| session.name)
        .collect()
}

#[test]
fn exactly_one_session_is_active() {
    let (_folder, catalog) = catalog();
    assert_eq!(catalog.active_session().unwrap(), None);
    let default = catalog.ensure_default_session("shop", "replica").unwrap();
    assert_eq!(catalog.ensure_default_session("shop", "another").unwrap(), default);
    let trial = catalog.create_session(&new_session("trial")).unwrap();
    assert_eq!(active(&catalog), ["default"]);
    catalog.switch_session(trial.id).unwrap();
    assert_eq!(active(&catalog), ["trial"]);
    assert!(matches!(catalog.switch_session(SessionId(Uuid::nil())), Err(CatalogError::NotFound { .. })));
    assert_eq!(active(&catalog), ["trial"]);
    assert!(matches!(catalog.delete_session(trial.id), Err(CatalogError::Active { .. })));
    assert!(matches!(catalog.delete_session(default.id), Err(CatalogError::Fixed { .. })));
    catalog.switch_session(default.id).unwrap();
    catalog.delete_session(trial.id).unwrap();
    assert_eq!(active(&catalog), ["default"]);
}

#[test]
fn sessions_have_names_and_databases_of_their_own() {
    let (_folder, catalog) = catalog();
    let made = catalog.create_session(&new_session("one")).unwrap();
    assert!(matches!(catalog.create_session(&new_session("one")), Err(CatalogError::NameTaken { .. })));
    let same_target = NewSession { target_database: "shop_one".to_owned(), ..new_session("two") };
    assert!(matches!(catalog.create_session(&same_target), Err(CatalogError::TargetTaken { .. })));
    assert!(matches!(catalog.create_session(&new_session(" ")), Err(CatalogError::SessionName { .. })));
    let opened = catalog.set_session_open(made.id, true).unwrap();
    let following = catalog.set_session_follow(made.id, true).unwrap();
    assert!(opened.open && following.open && following.follow);
    assert_eq!(catalog.find_session("one").unwrap(), following);
    assert_eq!(catalog.find_session(&made.id.to_string()).unwrap(), following);
    assert_eq!(catalog.set_session_target(made.id, "shop_one").unwrap().target_database, "shop_one");
}

#[test]
fn a_checkpoint_outlives_its_session() {
    let (_folder, catalog) = catalog();
    catalog.ensure_default_session("shop", "replica").unwrap();
    let trial = catalog.create_session(&new_session("trial")).unwrap();
    let new = NewCheckpoint { session_id: Some(trial.id), ..new_checkpoint("here", 1) };
    let made = catalog.create_checkpoint(&new).unwrap();
    assert_eq!(made.session_id, Some(trial.id));
    catalog.delete_session(trial.id).unwrap();
    assert_eq!(catalog.checkpoint(made.id).unwrap().session_id, None);
}

struct Mover {
    catalog: Catalog,
    session: Session,
    at: u64,
    _folder: TempDir,
}

impl Mover {
    fn new() -> Self {
        let (folder, catalog) = catalog();
        let session = catalog.ensure_default_session("shop", "replica").unwrap();
        Self { catalog, session, at: 0, _folder: folder }
    }

    fn step(&mut self, step: MoveStep, to: u64, outcome: &MoveOutcome, reached: u64) {
        let new = NewMove {
            session_id: self.session.id,
            step,
            from: Some(position(self.at)),
            to: position(to),
            strategy: "redo".to_owned(),
        };
        let begun = self.catalog.begin_move(&new).unwrap();
        let ended = self.catalog.finish_move(begun.id, outcome, position(reached)).unwrap();
        assert_eq!(ended.outcome.as_ref(), Some(outcome));
        self.at = reached;
    }

    fn navigate(&mut self, to: u64) {
        self.step(MoveStep::Navigate, to, &MoveOutcome::Done, to);
    }

    fn undo(&mut self) -> Option<u64> {
        let to = self.catalog.move_to_undo(self.session.id).unwrap()?.from.unwrap().ordinal;
        self.step(MoveStep::Undo, to, &MoveOutcome::Done, to);
        Some(to)
    }

    fn redo(&mut self) -> Option<u64> {
        let to = self.catalog.move_to_redo(self.session.id).unwrap()?.to.ordinal;
        self.step(MoveStep::Redo, to, &MoveOutcome::Done, to);
        Some(to)
    }
}

#[test]
fn undo_and_redo_are_those_of_an_editor() {
    let mut mover = Mover::new();
    assert_eq!((mover.undo(), mover.redo()), (None, None));
    for to in [1, 2, 3] {
        mover.navigate(to);
    }
    assert_eq!((mover.undo(), mover.undo()), (Some(2), Some(1)));
    assert_eq!(mover.redo(), Some(2));
    assert_eq!(mover.undo(), Some(1));
    mover.navigate(9);
    assert_eq!(mover.redo(), None, "a new move forgets what could have been made again");
    assert_eq!((mover.undo(), mover.undo(), mover.undo()), (Some(1), Some(0), None));
    assert_eq!((mover.redo(), mover.redo(), mover.redo()), (Some(1), Some(9), None));
    assert_eq!(mover.catalog.moves(mover.session.id, 100).unwrap().len(), 12, "every move is on the history");
}

#[test]
fn a_move_that_failed_where_it_began_cannot_be_taken_back_one_half_way_can() {
    let mut mover = Mover::new();
    let failed = MoveOutcome::Failed("no space".to_owned());
    mover.navigate(1);
    mover.step(MoveStep::Navigate, 5, &failed, 1);
    assert_eq!(mover.catalog.move_to_undo(mover.session.id).unwrap().unwrap().to, position(1));
    mover.step(MoveStep::Navigate, 5, &failed, 3);
    let half = mover.catalog.move_to_undo(mover.session.id).unwrap().unwrap();
    assert_eq!((half.from, half.to, half.outcome), (Some(position(1)), position(3), Some(failed)));
    mover.step(MoveStep::Undo, 1, &MoveOutcome::Interrupted, 2);
    assert_eq!(mover.undo(), Some(1), "an undo that stopped half way is there to be made again");
}

#[test]
fn a_move_to_where_the_session_is_leaves_what_can_be_taken_back_and_made_again() {
    let mut mover = Mover::new();
    mover.navigate(1);
    mover.navigate(2);
    mover.navigate(2);
    assert_eq!(mover.undo(), Some(1));
    mover.navigate(1);
    assert_eq!(mover.redo(), Some(2));
}

#[test]
fn a_move_that_went_somewhere_unseen_is_taken_back_like_another() {
    let mut mover = Mover::new();
    mover.navigate(1);
    // The server could not be asked any more: it is noted where it began.
    mover.step(MoveStep::Navigate, 9, &MoveOutcome::Failed("lost".to_owned()), 1);
    mover.catalog.found_at(mover.session.id, position(1)).unwrap();
    assert_eq!(mover.catalog.move_to_undo(mover.session.id).unwrap().unwrap().to, position(1));
    mover.catalog.found_at(mover.session.id, position(4)).unwrap();
    mover.at = 4;
    assert_eq!(mover.undo(), Some(1));
    // Its process was killed on the way, and the next one finds the session there.
    let new = NewMove {
        session_id: mover.session.id,
        step: MoveStep::Navigate,
        from: Some(position(1)),
        to: position(8),
        strategy: "redo".to_owned(),
    };
    mover.catalog.begin_move(&new).unwrap();
    mover.at = 6;
    mover.navigate(7);
    assert_eq!((mover.undo(), mover.undo(), mover.undo()), (Some(6), Some(1), Some(0)));
}

#[test]
fn an_interrupted_move_is_visible() {
    let mover = Mover::new();
    let new = NewMove {
        session_id: mover.session.id,
        step: MoveStep::Navigate,
        from: None,
        to: position(4),
        strategy: "keyframe".to_owned(),
    };
    let begun = mover.catalog.begin_move(&new).unwrap();
    assert_eq!((begun.finished_at, begun.outcome), (None, None));
    let next = mover.catalog.begin_move(&new).unwrap();
    let moves = mover.catalog.moves(mover.session.id, 10).unwrap();
    assert_eq!(moves.iter().map(|one| one.id).collect::<Vec<_>>(), [next.id, begun.id]);
    assert_eq!(moves[1].outcome, Some(MoveOutcome::Interrupted));
    mover.catalog.interrupt_moves(mover.session.id).unwrap();
    assert_eq!(mover.catalog.moves(mover.session.id, 1).unwrap()[0].outcome, Some(MoveOutcome::Interrupted));
}

#[test]
fn several_users_may_be_the_first() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    Catalog::open(&path).unwrap().ensure_default_session("shop", "replica").unwrap()
                });
            }
        });
        assert_eq!(Catalog::open(&path).unwrap().sessions().unwrap().len(), 1);
    }
}

#[test]
fn several_users_at_once_lose_nothing() {
    let (folder, catalog) = catalog();
    let path = folder.path().join("data/catalog.sqlite");
    std::thread::scope(|scope| {
        for user in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let own = Catalog::open(path).unwrap();
                for number in 0..25 {
                    own.create_checkpoint(&new_checkpoint(&format!("user {user} number {number}"), number))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(catalog.checkpoints(Some("shop")).unwrap().len(), 100);
}

#[test]
fn only_the_owner_may_read_it_and_a_newer_one_is_refused() {
    let (folder, catalog) = catalog();
    let path = folder.path().join("data/catalog.sqlite");
    for path in support::files(path.parent().unwrap()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    assert!(matches!(catalog.checkpoint(CheckpointId(Uuid::nil())), Err(CatalogError::NotFound { .. })));
    drop(catalog);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Catalog::open(&path), Err(CatalogError::Newer { found: 99, .. })));
}
