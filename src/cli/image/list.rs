//! `rkt image list`: a table of the images in the store (spec cli.md 1.3.2).

use std::cmp::Ordering;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use super::super::{
    CliError, Context, Exit,
    args::Format,
    format,
    output::{self, Layout, Table},
};
use crate::{
    appc::image_id::ImageId,
    image::store::{ImageRecord, Store},
};

/// List images in the local store
///
/// Columns: id, name, size (of the unpacked image and its tree), importtime, lastused, signer (the fingerprint of the key
/// that signed it). With --full the signer is shown without being asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Comma-separated list of columns: id, name, size, importtime, lastused, signer
    #[arg(long, value_name = "LIST", default_value = DEFAULT_FIELDS, value_parser = fields)]
    fields: List,
    /// Comma-separated list of what to sort by: name, importtime, lastused, size
    #[arg(long, value_name = "LIST", default_value = "importtime", value_parser = sort_keys)]
    sort: List,
    /// Direction of the sorting: asc, desc
    #[arg(long, value_name = "ORDER", default_value = "asc")]
    order: Order,
    /// Leave out the line of headers
    #[arg(long)]
    no_legend: bool,
    /// Use the long form of IDs, sizes and times
    #[arg(long)]
    full: bool,
    /// Output format: '', json, json-pretty
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
}

/// The columns unless others are asked for.
const DEFAULT_FIELDS: &str = "id,name,size,importtime,lastused";

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Size,
    ImportTime,
    LastUsed,
    Signer,
}

impl Field {
    const WORDS: [(&str, Self); 6] = [
        ("id", Self::Id),
        ("name", Self::Name),
        ("size", Self::Size),
        ("importtime", Self::ImportTime),
        ("lastused", Self::LastUsed),
        ("signer", Self::Signer),
    ];

    fn header(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::Name => "NAME",
            Self::Size => "SIZE",
            Self::ImportTime => "IMPORT TIME",
            Self::LastUsed => "LAST USED",
            Self::Signer => "SIGNER",
        }
    }

    fn compare(self, one: &ImageRecord, other: &ImageRecord) -> Ordering {
        match self {
            Self::Id => one.id.cmp(&other.id),
            Self::Name => shown_name(one).cmp(&shown_name(other)),
            Self::Size => one.size.cmp(&other.size),
            Self::ImportTime => one.imported.cmp(&other.imported),
            Self::LastUsed => one.last_used.cmp(&other.last_used),
            Self::Signer => one.signer.cmp(&other.signer),
        }
    }
}

/// A list of words, kept whole by clap.
#[derive(Clone, Debug)]
struct List(Vec<Field>);

fn fields(text: &str) -> Result<List, String> {
    list(text, &Field::WORDS)
}

fn sort_keys(text: &str) -> Result<List, String> {
    list(text, &Field::WORDS[1..5])
}

fn list(text: &str, known: &[(&str, Field)]) -> Result<List, String> {
    let mut fields = Vec::new();
    for word in text.split(',').filter(|_| !text.is_empty()) {
        let field = known.iter().find(|(name, _)| *name == word.to_lowercase());
        let (_, field) = field.ok_or_else(|| format!("unknown option {word:?}"))?;
        if fields.contains(field) {
            return Err(format!("duplicated option {word:?}"));
        }
        fields.push(*field);
    }
    Ok(List(fields))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

impl FromStr for Order {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "asc" => Ok(Self::Ascending),
            "desc" => Ok(Self::Descending),
            _ => Err("wrong sort order"),
        }
    }
}

/// An image in JSON.
#[derive(Serialize)]
struct ImageJson {
    id: ImageId,
    name: String,
    import_time: i64,
    last_used_time: i64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
}

/// Prints the images; what is broken is told behind them and changes no exit code.
pub fn run(args: &Args, ctx: &Context) -> Result<Exit, CliError> {
    let store = Store::look(ctx.data_dir());
    let (mut images, broken) =
        store.list().map_err(|error| CliError::new("unable to get images information").because(error))?;
    store.add_tree_sizes(&mut images);
    images.sort_by(|one, other| {
        let keys = args.sort.0.iter().map(|field| field.compare(one, other));
        let order = keys.fold(Ordering::Equal, Ordering::then);
        if args.order == Order::Descending { order.reverse() } else { order }
    });
    match args.format {
        Format::Text => print_table(args, &images),
        Format::Json => print_json(&images, Layout::Compact),
        Format::JsonPretty => print_json(&images, Layout::Pretty),
    }
    let broken: Vec<_> =
        broken.iter().map(|image| format!("image {}: {}", image.name, image.problem)).collect();
    output::error_block("listing images", &broken);
    Ok(Exit::SUCCESS)
}

fn print_table(args: &Args, images: &[ImageRecord]) {
    let mut table = Table::new();
    let mut fields = args.fields.0.clone();
    if args.full && Ok(&fields) == self::fields(DEFAULT_FIELDS).as_ref().map(|list| &list.0) {
        fields.push(Field::Signer);
    }
    if !args.no_legend {
        table.row(fields.iter().map(|field| field.header()));
    }
    let now = Timestamp::now();
    for image in images {
        table.row(fields.iter().map(|field| cell(*field, image, args.full, now)));
    }
    if args.no_legend && images.is_empty() {
        output::line("");
    }
    table.print();
}

fn cell(field: Field, image: &ImageRecord, is_full: bool, now: Timestamp) -> String {
    let time = |time: SystemTime| match Timestamp::try_from(time) {
        Ok(time) if is_full => format::full_time(time),
        Ok(time) => format::relative_time(time, now),
        // Out of the range of years that have four digits.
        Err(_) => "-".to_owned(),
    };
    match (field, is_full) {
        (Field::Id, false) => image.id.short12(),
        (Field::Id, true) => image.id.to_string(),
        (Field::Name, _) => shown_name(image),
        (Field::Size, false) => format::iec_size(image.size),
        (Field::Size, true) => image.size.to_string(),
        (Field::ImportTime, _) => time(image.imported),
        (Field::LastUsed, _) => time(image.last_used),
        (Field::Signer, _) => image.signer.clone().unwrap_or_else(|| "-".to_owned()),
    }
}

fn print_json(images: &[ImageRecord], layout: Layout) {
    let images: Vec<_> = images
        .iter()
        .map(|image| ImageJson {
            id: image.id,
            name: shown_name(image),
            import_time: format::nanoseconds(image.imported),
            last_used_time: format::nanoseconds(image.last_used),
            size: image.size,
            signer: image.signer.clone(),
        })
        .collect();
    output::json_list(&images, layout);
}

/// `NAME[:VERSION]`, without what a terminal would obey: labels are free text.
pub(super) fn shown_name(image: &ImageRecord) -> String {
    match image.label("version") {
        Some(version) => {
            let version: String = version.chars().filter(|c| !c.is_control()).collect();
            format!("{}:{version}", image.name)
        }
        None => image.name.to_string(),
    }
}
