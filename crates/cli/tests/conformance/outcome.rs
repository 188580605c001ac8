//! What came out, file by file: a table on stdout, details in a folder.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

pub enum Outcome {
    Equal,
    /// All differences.
    Differs(Vec<String>),
    /// What the program said.
    Stopped(String),
}

impl Outcome {
    pub fn of(differences: Vec<String>) -> Self {
        if differences.is_empty() { Self::Equal } else { Self::Differs(differences) }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs(_) => "differs",
            Self::Stopped(_) => "stopped",
        }
    }

    /// One line.
    fn summary(&self) -> String {
        let text = match self {
            Self::Equal => return String::new(),
            Self::Differs(all) => format!("{} differences: {}", all.len(), all[0].replace('\n', " ")),
            Self::Stopped(message) => {
                message.lines().filter(|line| !line.trim().is_empty()).take(3).collect::<Vec<_>>().join(" ")
            }
        };
        text.chars().take(150).collect()
    }

    fn details(&self) -> String {
        match self {
            Self::Equal => String::new(),
            Self::Differs(all) => all.join("\n"),
            Self::Stopped(message) => message.clone(),
        }
    }
}

/// Outcomes of a run.
pub struct Report {
    folder: PathBuf,
    outcomes: Vec<(String, Outcome)>,
    returns: Vec<(String, Outcome)>,
    /// Files that print something else while capturing, with how many lines.
    harmed: Vec<(String, usize)>,
}

impl Report {
    pub fn in_folder(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for the report");
        Self { folder: folder.to_owned(), outcomes: Vec::new(), returns: Vec::new(), harmed: Vec::new() }
    }

    /// A file's outcome, and what it printed without and with capture.
    pub fn add(&mut self, file: &str, outcome: Outcome, without: &str, with: &str) {
        let differing = differing_lines(without, with);
        println!(
            "{file:<24} {:<8} {:>4} lines differ  {}",
            outcome.word(),
            differing.len(),
            outcome.summary()
        );
        self.write(&format!("{file}.outcome"), &outcome.details());
        self.write(&format!("{file}.output-diff"), &differing.join("\n"));
        if !differing.is_empty() {
            self.harmed.push((file.to_owned(), differing.len()));
        }
        self.outcomes.push((file.to_owned(), outcome));
    }

    /// What a base image, taken after this file, does not bring over. Left out of the outcomes that follow.
    pub fn note_base_image(&self, file: &str, differences: &[String]) {
        if !differences.is_empty() {
            println!("  a base image taken here differs in {} places", differences.len());
        }
        self.write(&format!("{file}.base-image"), &differences.join("\n"));
    }

    pub fn add_returns(&mut self, returns: Vec<(String, Outcome)>) {
        for (name, outcome) in &returns {
            println!("back to {name:<24} {:<8} {}", outcome.word(), outcome.summary());
            self.write(&format!("back-to-{name}.outcome"), &outcome.details());
        }
        self.returns = returns;
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        if text.is_empty() {
            drop(std::fs::remove_file(path));
        } else {
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    pub fn print_total(&self) {
        let equal = self.outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Equal)).count();
        println!(
            "\n{equal} of {} files come out equal; details in {}",
            self.outcomes.len(),
            self.folder.display()
        );
        println!("{} files print something else while capturing", self.harmed.len());
    }

    #[track_caller]
    pub fn assert_all_equal(&self) {
        let mut wrong = String::new();
        for (name, outcome) in self.outcomes.iter().chain(&self.returns) {
            if !matches!(outcome, Outcome::Equal) {
                let details: String = outcome.details().chars().take(3000).collect();
                writeln!(wrong, "{name} {}:\n{details}\n", outcome.word()).expect("a string takes text");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }
}

/// Lines that one output has and the other has not, in their order (`-` without, `+` with capture).
fn differing_lines(without: &str, with: &str) -> Vec<String> {
    if without == with {
        return Vec::new();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (left, right) = (folder.path().join("without"), folder.path().join("with"));
    std::fs::write(&left, without).expect("a file");
    std::fs::write(&right, with).expect("a file");
    let output =
        std::process::Command::new("diff").args(["-U0"]).args([left, right]).output().expect("diff runs");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .skip(2)
        .filter(|line| !line.starts_with("@@"))
        .map(str::to_owned)
        .collect()
}
