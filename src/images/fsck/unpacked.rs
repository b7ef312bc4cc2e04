//! Are the unpacked layers what their blobs say?
//!
//! What it does: unpacks each layer that the store has unpacked once more, beside it, and compares
//! the two trees: every file's kind, mode, owner, time, attributes and content. A container whose
//! program writes into a layer (a mount gone wrong, a disk) changes every other container of the
//! image, and no digest tells. With repair, the fresh tree takes the place of the other.
//!
//! What it implements: image-spec "Layer Filesystem Changeset". Interface: [`check`].
//! Read next: `../../layers/diff.rs`.

use super::Problem;
use crate::error::{Context, Result};
use crate::images::store::{Image, Layer, Lock, Store, make_dirs};
use crate::images::unpack::remove_tree;
use crate::layers::diff::{self, Difference};
use crate::sys::{self, fs::CWD};
use std::path::{Path, PathBuf};

/// Compares all unpacked layers of an image, each once a chain id. `done` are those that were
/// looked at for another image. Errors: the disk is full, a tree cannot be read.
pub(super) fn check(
    store: &Store,
    _: &Lock,
    image: &Image,
    done: &mut std::collections::BTreeSet<String>,
    repair: bool,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    for (i, layer) in image.layers.iter().enumerate() {
        let place = store.layer_dir(layer);
        if !place.is_dir() || !done.insert(layer.chain_id.hex().to_string()) {
            continue;
        }
        let below = image.layers[..i].iter().rev().map(|l| store.layer_dir(l));
        let below: Vec<PathBuf> = below.collect();
        if below.iter().any(|b| !b.is_dir()) {
            continue; // what it inherits from them cannot be told; that they are missing is
        }
        let fresh = store.tmp().join(format!("fsck-{}", layer.chain_id.hex()));
        let found = compare(store, layer, &fresh, &place, &below).and_then(|difference| {
            let what = words(&difference);
            if repair && what.is_some() {
                put_in_place(store, layer, &fresh)?;
            }
            Ok(what)
        });
        let _ = remove_tree(&fresh); // what stays in tmp/, the next writer removes
        let name = image.display_name();
        let found = found.with_context(|| format!("cannot compare the unpacked layers of {name}"));
        if let Some(what) = found? {
            let what = format!("the unpacked layer of {name} was changed: {what}");
            let mut problem = Problem::new("layer", layer.chain_id.hex(), what);
            problem.repaired = repair.then_some("unpacked again");
            problems.push(problem);
        }
    }
    Ok(())
}

/// Unpacks into `fresh` and says how `place` differs.
fn compare(
    store: &Store,
    layer: &Layer,
    fresh: &Path,
    place: &Path,
    below: &[PathBuf],
) -> Result<Difference> {
    remove_tree(fresh)?;
    make_dirs(&fresh.join("diff"))?;
    store.unpack_into(layer, fresh, below)?;
    diff::differences(&fresh.join("diff"), place)
}

fn words(difference: &Difference) -> Option<String> {
    const SHOWN: usize = 5;
    let kinds = [
        ("added", &difference.added),
        ("changed", &difference.changed),
        ("missing", &difference.deleted),
    ];
    let all: Vec<String> = kinds
        .iter()
        .flat_map(|(word, paths)| {
            let name = |p: &PathBuf| format!("/{} {word}", p.display());
            paths.iter().map(name).collect::<Vec<_>>()
        })
        .collect();
    let mut text = all[..all.len().min(SHOWN)].join(", ");
    if all.len() > SHOWN {
        text += &format!(" and {} more", all.len() - SHOWN);
    }
    (!all.is_empty()).then_some(text)
}

fn put_in_place(store: &Store, layer: &Layer, fresh: &Path) -> Result<()> {
    let place = store.layers_dir().join(layer.chain_id.hex());
    let what = || format!("cannot put {} in place", place.display());
    sys::fs::renameat2(CWD, fresh, CWD, &place, libc::RENAME_EXCHANGE).with_context(what)
}
