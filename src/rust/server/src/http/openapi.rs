//! `/openapi.json`: the routes as a document (OpenAPI 3.1), made from the table that the router is made from. It holds
//! nothing of a store, so anybody may read it.
use super::route::{Is, MOST, Parameter, Route};
use super::table::{Group, groups};
use crate::problem::Shown;
use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// Refusals that each route has which is not open to anybody.
const ALWAYS: [u16; 6] = [400, 401, 403, 413, 500, 503];

const DESCRIPTION: &str = "An encrypted store of personal secrets. Its routes for people and their secrets are those of \
    DSS's public API, under both of its prefixes; its own begin with /dkusecrets/v1. Over the server's Unix socket no \
    credential is needed: the kernel says who asks. An administrator may add the header X-DKU-ProxyUser with a login to \
    act as that person, where the store allows it. Bodies are JSON, whatever their content type. A path may end with a \
    slash.";

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<Shown>();
    let mut paths = Map::new();
    let groups = groups();
    for group in &groups {
        for route in &group.routes {
            let path = format!("{}{}", group.prefix, route.path);
            let method = route.method.as_str().to_ascii_lowercase();
            let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
            item[method.as_str()] = operation(group, route, &path, &mut schemas);
        }
    }
    let tags: Vec<Value> = groups.iter().map(|group| json!({ "name": group.name })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "dkusecrets",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "security": [{ "key": [] }, { "bearer": [] }, { "ticket": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "An API key as user name with an empty password, or the other way round",
                },
                "bearer": { "type": "http", "scheme": "bearer", "description": "An API key" },
                "ticket": { "type": "apiKey", "in": "header", "name": "X-DKU-APITicket", "description": "A ticket" },
            },
            "responses": refusals(&problem),
            "schemas": schemas.take_definitions(true),
        },
    })
}

/// One route.
fn operation(group: &Group, route: &Route, path: &str, schemas: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = parts(path).map(part).collect();
    parameters.extend(route.query.iter().map(query));
    let mut responses = Map::new();
    let answer = (route.answer)(schemas);
    responses.insert("200".into(), json!({ "description": "Done", "content": json_of(&answer) }));
    let always: &[u16] = if route.open { &[] } else { &ALWAYS };
    let mut statuses = [always, route.refusals].concat();
    statuses.sort_unstable();
    for status in statuses {
        let status = status.to_string();
        let refusal = json!({ "$ref": format!("#/components/responses/{status}") });
        responses.insert(status, refusal);
    }
    let name: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut operation = json!({
        "operationId": format!("{}{name}", route.method.as_str().to_ascii_lowercase()),
        "summary": route.summary,
        "tags": [group.name],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({ "required": !route.optional, "content": json_of(&body(schemas)) });
    }
    if route.open {
        operation["security"] = json!([]);
    }
    operation
}

fn json_of(schema: &schemars::Schema) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// The names in a path that stand for something.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn part(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
}

fn query(parameter: &Parameter) -> Value {
    let schema = match parameter.is {
        Is::Flag => json!({ "type": "boolean" }),
        Is::Count => json!({ "type": "integer", "minimum": 0, "maximum": MOST }),
        Is::Text => json!({ "type": "string" }),
    };
    json!({ "name": parameter.name, "in": "query", "description": parameter.summary, "schema": schema })
}

/// What every refusal is, by status.
fn refusals(problem: &schemars::Schema) -> Value {
    let retry = json!({ "Retry-After": { "description": "In seconds", "schema": { "type": "integer" } } });
    let all = [
        (400, "Something in the request is not as it has to be: the message names it"),
        (401, "A credential that is missing, wrong, over or revoked"),
        (403, "The caller may not do that"),
        (404, "It is not there, or is somebody else's"),
        (409, "It exists already, or was changed meanwhile"),
        (413, "A request's body has at most 8 MiB"),
        (429, "Too many tries: wait"),
        (500, "Something is wrong here; the server's log says more"),
        (503, "The server, its disk or another process is busy: try again"),
    ];
    let one = |(status, description): (u16, &str)| {
        let mut refusal = json!({ "description": description, "content": json_of(problem) });
        if [429, 503].contains(&status) {
            refusal["headers"] = retry.clone();
        }
        (status.to_string(), refusal)
    };
    all.into_iter().map(one).collect::<Map<_, _>>().into()
}

/// `GET /openapi.json`.
pub async fn serve() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| document().to_string().into()).clone();
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_says_what_it_is() {
        let document = document();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
                for status in operation["responses"].as_object().unwrap().keys().filter(|status| *status != "200") {
                    assert!(document["components"]["responses"][status].is_object(), "{method} {path} {status}");
                }
            }
        }
        // Each route of DSS's is under both prefixes.
        let under = |prefix: &str| -> Vec<String> {
            let paths = document["paths"].as_object().unwrap().keys();
            paths.filter_map(|path| path.strip_prefix(prefix).map(str::to_owned)).collect()
        };
        assert_eq!(under("/dip/publicapi"), under("/public/api"));
        assert!(under("/dip/publicapi").len() > 20);
        // Each reference leads somewhere.
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    /// Those whose answer is of any form, and why.
    #[test]
    fn answers_are_described() {
        let any = ["/dkusecrets/v1/owner", "/openapi.json"];
        let mut schemas = SchemaGenerator::default();
        for group in groups() {
            for route in &group.routes {
                let path = format!("{}{}", group.prefix, route.path);
                let schema = (route.answer)(&mut schemas);
                assert_eq!(schema.as_bool() == Some(true), any.contains(&path.as_str()), "{} {path}", route.method);
            }
        }
    }
}
