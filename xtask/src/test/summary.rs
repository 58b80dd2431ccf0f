//! Sums up the result lines of many test programs.

use std::fmt;

/// The results of all tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Summary {
    /// Adds the counts of a line, if it is a result line: `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured;
    /// 0 filtered out; finished in 0.01s`.
    pub(super) fn take(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|result| result.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// How many tests ran.
    pub(super) fn ran(&self) -> u64 {
        self.passed + self.failed
    }

    /// Whether this is a success: something ran and nothing failed, and if `strict`, nothing was skipped.
    pub(super) fn is_good(&self, strict: bool) -> bool {
        self.passed > 0 && self.failed == 0 && !(strict && self.ignored > 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} skipped", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(lines: &[&str]) -> Summary {
        let mut summary = Summary::default();
        lines.iter().for_each(|line| summary.take(line));
        summary
    }

    #[test]
    fn result_lines_are_summed_and_others_are_not() {
        let summary = sum(&[
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test prints test result: ok. 9 passed; 9 failed; ... ok",
            "test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1.00s",
        ]);
        assert_eq!(summary, Summary { passed: 4, failed: 2, ignored: 1 });
        assert_eq!(summary.to_string(), "4 passed, 2 failed, 1 skipped");
        assert!(!summary.is_good(false));
    }

    #[test]
    fn nothing_run_is_no_success_and_a_skip_is_none_where_it_is_strict() {
        assert!(!sum(&[]).is_good(false));
        let skipped =
            sum(&["test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s"]);
        assert!(skipped.is_good(false));
        assert!(!skipped.is_good(true));
        assert_eq!(sum(&["test result: ok. 1 passed; 0 failed; 0 ignored"]).to_string(), "1 passed, 0 failed");
    }
}
