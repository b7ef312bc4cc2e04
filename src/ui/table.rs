//! Tables for listings: one declaration of columns drives the text and keeps docker's look.
//!
//! What it does: left-aligned columns, two or more spaces apart, no lines, upper-case headings;
//! never wraps, so that other tools can cut it. Interface: [`Table`].
//! Read next: any listing in [`crate::cli`].

use std::fmt;

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// A table with these headings, which print in upper case.
    pub fn new(headings: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(comfy_table::presets::NOTHING);
        inner.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        inner.set_header(headings.iter().map(|h| h.to_uppercase()));
        for column in inner.column_iter_mut() {
            column.set_padding((0, 3));
        }
        Table { inner }
    }
    /// Appends a row with one cell a heading.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.inner
            .add_row(cells.into_iter().map(Into::into).collect::<Vec<String>>());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.inner.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        f.write_str(&lines.join("\n"))
    }
}
