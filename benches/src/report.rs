//! The results of a phase: lines for people, JSON for the record.

use serde_json::Value;

/// The results of one phase.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name in the record.
    pub(crate) name: &'static str,
    /// Its title in the table.
    pub(crate) title: &'static str,
    /// Its lines: name and value.
    pub(crate) lines: Vec<(String, String)>,
    /// All its numbers.
    pub(crate) json: Value,
}

/// Prints the sections as one table.
pub(crate) fn print(sections: &[Section]) {
    let width = sections.iter().flat_map(|s| &s.lines).map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for section in sections {
        println!("\n{}", section.title);
        for (name, value) in &section.lines {
            println!("  {name:<width$}  {value}");
        }
    }
}

/// The median of `values`; 0 if there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[len / 2],
        len => (values[len / 2 - 1] + values[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
