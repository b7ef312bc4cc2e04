//! `glassbox network ls`, `inspect`.
//!
//! Read next: `change.rs`; the work is done by [`crate::containers::networks`].

use crate::cli::image::Root;
use crate::cli::volume::{filters, has_label};
use crate::containers::Store;
use crate::containers::names;
use crate::containers::networks::{self, Network};
use crate::error::{Error, Kind, Result};
use crate::ui::{self, Table, template};
use serde_json::{Map, Value, json};

/// List networks.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox network ls
  glassbox network ls -q --filter driver=bridge
  glassbox network ls --format '{{.Name}}: {{.Driver}}'")]
pub struct LsArgs {
    /// Print the ids alone.
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids.
    #[arg(long)]
    no_trunc: bool,
    /// Print JSON: an array with an object a network.
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    json: bool,
    /// `json`, `table TEMPLATE` or a template of {{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}}
    /// {{.Internal}} {{.Labels}} {{.CreatedAt}}.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only some: dangling=true|false, driver=NAME, id=ID, label=KEY[=VALUE], name=TEXT, scope=local,
    /// type=custom|builtin. Repeatable.
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

fn fits(store: &Store, network: &Network, filters: &[(&str, &str)]) -> Result<bool> {
    let wrong = |key: &str, value: &str| {
        Err(Error::kind(
            Kind::Usage,
            format!("invalid filter '{key}={value}'"),
        ))
    };
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        let mut values = filters.iter().filter(|(k, _)| *k == key).peekable();
        values.peek().is_none() || values.any(|(_, v)| test(v))
    };
    let mut fits = any("name", &|v| network.name.contains(v))
        && any("driver", &|v| network.driver == v)
        && any("id", &|v| network.id.starts_with(v))
        && any("scope", &|v| v == "local");
    for (key, value) in filters {
        fits &= match (*key, *value) {
            ("label", value) => has_label(&network.labels, value),
            ("type", "custom") => !network.is_predefined(),
            ("type", "builtin") => network.is_predefined(),
            ("dangling", "true" | "1") => {
                !network.is_predefined() && network.active(store).is_empty()
            }
            ("dangling", "false" | "0") => {
                network.is_predefined() || !network.active(store).is_empty()
            }
            ("type" | "dangling", value) => return wrong(key, value),
            _ => true,
        };
    }
    Ok(fits)
}

/// Runs `ls`.
pub fn ls(args: LsArgs) -> Result<u8> {
    let store = args.root.containers()?;
    networks::settle(&store)?; // what a monitor that was killed could not take away
    let keys = ["dangling", "driver", "id", "label", "name", "scope", "type"];
    let filters = filters(&args.filters, &keys)?;
    let mut rows = Vec::new();
    for network in networks::list(&store)? {
        if fits(&store, &network, &filters)? {
            rows.push(network);
        }
    }
    let id = |n: &Network| match args.no_trunc {
        true => n.id.clone(),
        false => names::short(&n.id).to_string(),
    };
    if args.quiet {
        rows.iter().for_each(|n| ui::out(id(n)));
        return Ok(0);
    }
    if args.json {
        let list: Vec<Value> = rows.iter().map(|n| document(&store, n)).collect();
        ui::print_json(&list);
        return Ok(0);
    }
    let Some(format) = args.format.as_deref().filter(|f| *f != "table") else {
        let mut table = Table::new(&["network id", "name", "driver", "scope"]);
        for network in &rows {
            table.row([
                &id(network),
                &network.name,
                &network.driver,
                &"local".to_string(),
            ]);
        }
        ui::out(table);
        return Ok(0);
    };
    let values: Vec<Value> = rows
        .iter()
        .map(|n| {
            let labels: Vec<String> = n.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            json!({
                "CreatedAt": n.created,
                "Driver": n.driver,
                "ID": id(n),
                "IPv4": "true",
                "IPv6": n.ipv6.to_string(),
                "Internal": n.internal.to_string(),
                "Labels": labels.join(","),
                "Name": n.name,
                "Scope": "local",
            })
        })
        .collect();
    let headings = [("ID", "NETWORK ID")];
    let text = template::rows(format, &values, &headings)?;
    if !text.is_empty() {
        ui::out(text);
    }
    Ok(0)
}

/// Docker's keys, and the device of the host's.
fn document(store: &Store, network: &Network) -> Value {
    let pools = network.pools.iter().map(|p| {
        let mut pool = json!({ "Subnet": p.subnet, "Gateway": p.gateway });
        if let Some(range) = p.range {
            pool["IPRange"] = json!(range);
        }
        if !p.auxiliary.is_empty() {
            pool["AuxiliaryAddresses"] = json!(p.auxiliary);
        }
        pool
    });
    let mut containers = Map::new();
    for lease in network.active(store) {
        let of = |four: bool| {
            let mut all = lease.endpoint.addresses.iter();
            let found = all.find(|a| a.address.is_ipv4() == four);
            found.map(ToString::to_string).unwrap_or_default()
        };
        let shown = json!({
            "Name": lease.name,
            "EndpointID": lease.endpoint_id,
            "MacAddress": lease.endpoint.mac,
            "IPv4Address": of(true),
            "IPv6Address": of(false),
        });
        containers.insert(lease.container.clone(), shown);
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": true,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": Value::Null,
            "Config": pools.collect::<Vec<_>>(),
        },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
        "Device": network.device,
    })
}

/// Show everything about networks, as JSON: docker's keys, and the device of the host's.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox network inspect web
  glassbox network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' web")]
pub struct InspectArgs {
    /// Print with a template of docker's keys.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// For uniformity: it is JSON without --format.
    #[arg(long, hide = true)]
    json: bool,
    /// For docker's users: there is no more to tell.
    #[arg(short, long, hide = true)]
    verbose: bool,
    /// The networks.
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `inspect`: what is found is printed, and what is not makes the status 1.
pub fn inspect(args: InspectArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let mut found = Vec::new();
    let status = crate::cli::each(&args.networks, |name| {
        found.push(document(&store, &networks::find(&store, name)?));
        Ok(())
    })?;
    match &args.format {
        None => ui::print_json(&found),
        Some(template) => {
            for network in &found {
                ui::out(template::render(template, network)?);
            }
        }
    }
    Ok(status)
}
