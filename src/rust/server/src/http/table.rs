//! Every route there is. The router and `/openapi.json` are made from this table, so a route that is not described does
//! not exist.
use super::dispatch::{self, Served};
use super::route::{Is, Parameter, Route, Service};
use super::{App, admin, auth, openapi, own, runs, settings, sign_in};
use axum::Router;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

const WITH_SECRETS: Parameter =
    Parameter { name: "withSecrets", is: Is::Flag, summary: "Whether the secrets are wanted too" };
const ALLOW_SELF_DELETION: Parameter =
    Parameter { name: "allowSelfDeletion", is: Is::Flag, summary: "Whether it may be the caller who is removed" };
const LABEL: Parameter =
    Parameter { name: "label", is: Is::Text, summary: "The label, as clients up to version 9 say it" };
const LIMIT: Parameter = Parameter {
    name: "limit",
    is: Is::Count,
    summary: "How many events at most; 1,000 if it is not said, at most 100,000",
};

/// A group of routes: what they begin with, what they are called together, and they.
pub struct Group {
    pub prefix: &'static str,
    pub name: &'static str,
    pub routes: Vec<Route>,
}

/// Everything that is served.
pub fn groups() -> Vec<Group> {
    vec![
        Group { prefix: "/dip/publicapi", name: "DSS", routes: dss() },
        Group { prefix: "/public/api", name: "DSS, by its other prefix", routes: dss() },
        Group { prefix: "/dkusecrets/v1", name: "dkusecrets", routes: ours() },
        Group { prefix: "", name: "About this server", routes: open() },
    ]
}

/// The part of DSS's public API that is about people and their secrets.
fn dss() -> Vec<Route> {
    let mut all = vec![
        Route::new(GET, "/auth/info", "Who is asking, with their secrets if wanted", auth::info::<()>)
            .query(&[WITH_SECRETS])
            .quick(),
        Route::new(POST, "/auth/ticket", "A ticket for the caller, which holds for a day at most", auth::ticket),
        Route::new(
            POST,
            "/auth/info-from-browser-headers",
            "Who looks at the application that asks; for those that are allowed to",
            sign_in::viewer_info,
        )
        .query(&[WITH_SECRETS])
        .even_doubted(),
        Route::new(
            POST,
            "/auth/ticket-from-browser-headers",
            "A ticket for who looks at the application that asks; for those that are allowed to",
            sign_in::viewer_ticket,
        )
        .even_doubted(),
        Route::new(GET, "/instance-info", "What this server is", auth::instance),
        Route::new(GET, "/current-user", "One's own settings; tokens stand for the values of secrets", settings::own),
        Route::new(PUT, "/current-user", "Save one's own settings, merged with what others saved", settings::save_own)
            .or(&[404, 409]),
        Route::new(GET, "/users", "Everybody; for administrators", admin::infos),
        Route::new(GET, "/users/{login}", "Somebody: oneself, or anybody for administrators", admin::info).or(&[404]),
        Route::new(GET, "/admin/users", "Everybody", admin::list),
        Route::new(POST, "/admin/users", "Add somebody", admin::create).or(&[409]),
        Route::new(POST, "/admin/users/actions/bulk", "Add many", admin::create_many),
        Route::new(PUT, "/admin/users/actions/bulk", "Change many", admin::edit_many),
        Route::new(DELETE, "/admin/users/actions/bulk", "Remove many, by login", admin::delete_many)
            .query(&[ALLOW_SELF_DELETION]),
        Route::new(GET, "/admin/users/{login}", "Somebody's settings, without their secrets", settings::of_user)
            .or(&[404]),
        Route::new(PUT, "/admin/users/{login}", "Save somebody's settings", settings::save_user).or(&[404, 409]),
        Route::new(DELETE, "/admin/users/{login}", "Remove somebody with their secrets and keys", admin::delete)
            .query(&[ALLOW_SELF_DELETION])
            .or(&[404]),
        Route::new(GET, "/admin/users/{login}/activity", "When somebody was last here", admin::activity).or(&[404]),
        Route::new(GET, "/admin/users-activity", "When everybody was last here", admin::activities),
        Route::new(GET, "/admin/groups", "Every group", admin::groups),
        Route::new(POST, "/admin/groups", "Add a group", admin::create_group).or(&[409]),
        Route::new(GET, "/admin/groups/{name}", "A group", admin::group).or(&[404]),
        Route::new(PUT, "/admin/groups/{name}", "Change a group's description", admin::save_group).or(&[404]),
        Route::new(DELETE, "/admin/groups/{name}", "Remove a group, and everybody from it", admin::delete_group)
            .or(&[404]),
        Route::new(GET, "/personal-api-keys/{id}", "One of one's own keys", auth::key).or(&[404]),
        Route::new(PUT, "/personal-api-keys/{id}", "Change a key's label and description", auth::save_key).or(&[404]),
        Route::new(DELETE, "/personal-api-keys/{id}", "Revoke one of one's own keys", auth::delete_key).or(&[404]),
        Route::new(GET, "/admin/personal-api-keys", "Everybody's keys, never the keys themselves", admin::all_keys),
        Route::new(POST, "/admin/personal-api-keys", "Make a key for somebody", admin::create_key_for).or(&[404]),
        Route::new(DELETE, "/admin/personal-api-keys/{id}", "Revoke somebody's key", admin::delete_any_key).or(&[404]),
        Route::new(POST, "/admin/audit/custom/{type}", "Write an event to the log", admin::custom_event)
            .optional_body(),
    ];
    // The second as clients up to version 9 have it.
    for path in ["/personal-api-keys", "/auth/personal-api-keys"] {
        all.push(Route::new(GET, path, "One's own keys, never the keys themselves", auth::keys));
        all.push(
            Route::new(POST, path, "Make a key; it is in this answer only", auth::create_key)
                .query(&[LABEL])
                .optional_body()
                .or(&[404]),
        );
    }
    // The second as clients up to version 12 have it.
    for path in ["/admin/global-api-keys", "/admin/globalAPIKeys"] {
        let one = || format!("{path}/{{id}}");
        all.push(Route::new(GET, path, "Every key of nobody", admin::global_keys));
        all.push(
            Route::new(POST, path, "Make a key of nobody, which reads no secrets", admin::create_global_key).or(&[404]),
        );
        all.push(Route::new(GET, one(), "A key of nobody", admin::global_key).or(&[404]));
        all.push(Route::new(PUT, one(), "Change a key of nobody", admin::save_global_key).or(&[404]));
        all.push(Route::new(DELETE, one(), "Revoke a key of nobody", admin::delete_global_key).or(&[404]));
    }
    all
}

/// Our own: what R does with a vault.
fn ours() -> Vec<Route> {
    vec![
        Route::new(GET, "/info", "Who is asking, and whom", own::info),
        Route::new(GET, "/secrets", "One's own secrets, without values", own::list),
        Route::new(POST, "/secrets/get", "Read a secret", own::get).or(&[404]).quick(),
        Route::new(POST, "/secrets/set", "Store a secret", own::set).or(&[409]),
        Route::new(POST, "/secrets/describe", "Change a description or an expiry", own::describe).or(&[404, 409]),
        Route::new(POST, "/secrets/remove", "Remove a secret, for the time that it can be restored", own::remove)
            .or(&[404, 409]),
        Route::new(POST, "/secrets/restore", "Restore a removed secret, or an earlier version", own::restore)
            .or(&[404, 409]),
        Route::new(POST, "/secrets/rename", "Give a secret another name", own::rename).or(&[404, 409]),
        Route::new(
            POST,
            "/secrets/purge",
            "Destroy what is kept for undoing: older versions, or a removed secret altogether",
            own::purge,
        )
        .or(&[404]),
        Route::new(POST, "/secrets/versions", "The versions of a secret, without values", own::versions).or(&[404]),
        Route::new(GET, "/audit", "One's own events, newest first", own::audit).query(&[LIMIT]),
        Route::new(POST, "/keys/confirm", "Let a key that somebody else made open one's secrets", own::confirm_key)
            .or(&[404]),
        Route::own::<sign_in::SessionShown>(
            POST,
            "/session",
            "Sign in: the session is a cookie",
            Service::Own(Box::new(axum::routing::post(sign_in::begin))),
        )
        .reads::<sign_in::Credentials>()
        .open()
        .or(&[400, 401, 403, 413, 429, 500, 503]),
        Route::new(GET, "/session", "The session that the caller came with", sign_in::session).or(&[404]),
        Route::new(DELETE, "/session", "Sign out", sign_in::end).even_doubted(),
        Route::new(DELETE, "/sessions", "Sign out everywhere", sign_in::end_all).even_doubted(),
        Route::new(POST, "/password", "Set or change one's own password", sign_in::password).or(&[429]).even_doubted(),
        Route::new(POST, "/password/confirm", "Let one's password open one's secrets", sign_in::confirm).or(&[404]),
        Route::new(GET, "/tickets", "One's own tickets, never the tickets themselves", own::tickets),
        Route::new(POST, "/tickets", "A ticket for the caller, with an id to revoke it by", own::issue_ticket),
        Route::new(DELETE, "/tickets/{id}", "Revoke one of one's own tickets", own::revoke_ticket).or(&[404]),
        Route::new(POST, "/owner", "A command of the store's owner, over the socket", own::command).or(&[404, 409]),
        Route::own::<runs::Run>(
            POST,
            "/runs",
            "A ticket for as long as this answer is being read: it has one line and does not end",
            Service::Own(Box::new(axum::routing::post(runs::begin))),
        ),
    ]
}

/// What anybody may ask who reaches the server.
fn open() -> Vec<Route> {
    let document = Service::Own(Box::new(axum::routing::get(openapi::serve)));
    vec![Route::own::<serde_json::Value>(GET, "/openapi.json", "This document", document).open()]
}

/// The router of all routes.
pub fn router() -> Router<App> {
    let mut router = Router::new();
    for group in groups() {
        for route in group.routes {
            let path = format!("{}{}", group.prefix, route.path);
            let service = match route.service {
                Service::Handler(handler) => {
                    let changes = route.method != GET && !route.even_doubted;
                    let served = Served { handler, known: route.query, quick: route.quick, changes };
                    method(&route.method, dispatch::handler(served))
                }
                Service::Own(service) => *service,
            };
            router = router.route(&path, service);
        }
    }
    router
}

fn method<H, T>(method: &Method, handler: H) -> MethodRouter<App>
where
    H: axum::handler::Handler<T, App>,
    T: 'static,
{
    // All the methods of the table are among those that axum has filters for.
    axum::routing::on(MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET), handler)
}
