//! Killed while the beginning of the history is removed: the log opens, and begins where it did or where it was to; every
//! checkpoint that was kept is reached; what is there equals the primary.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    DATABASE,
    support::{Chance, both},
    world::{Place, World, lsn},
};

/// How long `gc` may take. It has made a base image, and compared it, long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// When it is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// At any time from when it was asked on.
    Any,
    /// While the new base image is made and compared.
    Image,
    /// From the step that decides on: the manifest names the new image.
    Decided,
}

const MOMENTS: [Moment; 3] = [Moment::Any, Moment::Image, Moment::Decided];

/// Lets most of the history go, kills the product meanwhile, and starts it again; whether it was meanwhile.
pub async fn round(world: &mut World, chance: &mut Chance) -> bool {
    let moment = *chance.pick(&MOMENTS);
    world.let_go(1 + chance.below(3));
    world.product.run(&["navigate", "head"]);
    let would = world.product.json(&["gc", "--yes", "--older-than", "0m", "--dry-run"]).to_string();
    let base = world.product.data_directory().join("base").join(DATABASE);
    let manifest = || std::fs::read(base.join("manifest.json")).expect("a base image has a manifest");
    let before = manifest();
    let images = || {
        let names = std::fs::read_dir(&base).expect("a base image");
        let names = names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("from-")).max()
    };
    let image = images();

    let mut command = world.begin_command(&["--json", "gc", "--yes", "--older-than", "0m"]);
    let since = Instant::now();
    loop {
        let is_there = match moment {
            Moment::Any => true,
            Moment::Image => images() != image,
            Moment::Decided => manifest() != before,
        };
        let ended = command.try_wait().expect("a child can be asked").is_some();
        assert!(since.elapsed() < PATIENCE, "gc did not come to {moment:?}:\n{}", world.printed());
        if is_there || ended {
            break;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let most = match moment {
        Moment::Any => 2_000,
        Moment::Image => 400,
        Moment::Decided => 12,
    };
    // Not a wait for something: the moment is what is tried.
    tokio::time::sleep(Duration::from_millis(chance.below(most) as u64)).await;
    let was_meanwhile = command.try_wait().expect("a child can be asked").is_none();
    world.kill();
    world.recover().await;
    // What it says of itself is checked by what is there.
    let said = world.end_command(command, PATIENCE).await;
    world.begins_at_old_or_new(&would, &said.map_or(String::new(), |(_, said)| said));
    world.all_are_reached().await;
    was_meanwhile
}

impl World {
    /// Deletes all checkpoints but the last few, and what else was asked for.
    fn let_go(&mut self, kept: usize) {
        let mut names: Vec<(u64, String)> =
            self.checkpoints.iter().map(|(name, place)| (lsn(&place.lsn), name.clone())).collect();
        names.sort();
        names.truncate(names.len().saturating_sub(kept));
        let needed = self.compared.0.clone();
        let gone: Vec<String> =
            names.into_iter().map(|(_, name)| name).filter(|name| *name != needed).collect();
        self.checkpoints.retain(|name, _| !gone.contains(name));
        let listed = self.product.json(&["checkpoint", "list"]);
        for one in listed.as_array().expect("a list") {
            let name = one["name"].as_str().expect("a name");
            if one["kind"] == "manual" && !self.checkpoints.contains_key(name) {
                self.product.run(&["checkpoint", "delete", name, "--yes"]);
            }
        }
        for one in self.product.json(&["keyframe", "list"])["keyframes"].as_array().expect("a list") {
            if one["reason"] == "manual" {
                self.product.run(&["keyframe", "delete", one["name"].as_str().expect("a name"), "--yes"]);
            }
        }
    }

    fn creation(&self) -> Place {
        Place::of(&self.product.json(&["checkpoint", "show", "CREATION"]))
    }

    /// `would` is what `gc --dry-run` was going to do.
    fn begins_at_old_or_new(&mut self, would: &str, said: &str) {
        let begins = self.creation();
        if Some(&begins) == self.beginning.as_ref() || begins.transaction == 0 {
            return;
        }
        assert!(
            would.contains(&format!("the history begins at {}", begins.lsn)),
            "it begins at {begins:?}, and was to begin as in {would}; gc said {said}"
        );
        if self.compared.0 == "CREATION" {
            self.compared.1 = lsn(&begins.lsn);
        }
        self.beginning = Some(begins);
    }

    async fn all_are_reached(&mut self) {
        let mut goals: Vec<(String, Option<Place>)> =
            self.checkpoints.iter().map(|(name, place)| (name.clone(), Some(place.clone()))).collect();
        goals.push(("CREATION".to_owned(), self.beginning.clone()));
        for (goal, place) in goals {
            self.product.run(&["navigate", &goal]);
            let at = self.session_is_exact().await;
            assert!(place.is_none_or(|place| place == at), "{goal} leads to {at:?}");
        }
        self.product.run(&["navigate", "head"]);
        let compared = self.product.output(&["--json", "verify"]);
        assert!(compared.status.success(), "{}", both(&compared));
        let answer: Value = serde_json::from_slice(&compared.stdout).expect("JSON");
        assert_eq!(answer["equal"], true, "{answer:#}");
    }
}
