//! The pages for people: Swagger UI, ReDoc, and the OpenAPI document that both show. Nothing is fetched from elsewhere:
//! scripts and styles are in the pages, and the content security policy refuses any other host.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use aide::redoc::Redoc;
use aide::swagger::Swagger;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// Only what the page itself brings, and this server.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src 'self' data:; font-src data:; connect-src 'self'; worker-src blob:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The one picture that ReDoc would fetch from elsewhere, and one of a single clear pixel to put in its place.
const REDOC_LOGO: &str = "https://cdn.redoc.ly/redoc/logo-mini.svg";
const BLANK_IMAGE: &str =
    "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

/// The pages.
#[derive(Debug)]
pub(crate) struct Pages {
    title: String,
    swagger: Page,
    redoc: Page,
    openapi: Bytes,
}

impl Pages {
    /// The pages of an API.
    pub(crate) fn new(title: &str, openapi: &serde_json::Value) -> Self {
        Self {
            title: escape_html(title),
            swagger: Page::default(),
            redoc: Page::default(),
            openapi: openapi.to_string().into(),
        }
    }

    /// Swagger UI.
    pub(crate) fn swagger(&self) -> Response<Body> {
        // Relative, so that the page also works under a prefix.
        let render = || Swagger::new("openapi.json").with_title(&self.title).html();
        page(self.swagger.rendered(render))
    }

    /// ReDoc.
    pub(crate) fn redoc(&self) -> Response<Body> {
        let render = || {
            let page = Redoc::new("openapi.json").with_title(&self.title).html();
            page.replace(REDOC_LOGO, BLANK_IMAGE)
        };
        page(self.redoc.rendered(render))
    }

    /// The OpenAPI document.
    pub(crate) fn openapi(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.openapi.clone()));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// A page of some megabytes that is rarely read: in memory while somebody reads it, once however many do.
#[derive(Debug, Default)]
struct Page(Mutex<Weak<String>>);

/// What a reader of a page holds.
struct Held(Arc<String>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Page {
    fn rendered(&self, render: impl FnOnce() -> String) -> Bytes {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page = held.upgrade().unwrap_or_else(|| Arc::new(render()));
        *held = Arc::downgrade(&page);
        Bytes::from_owner(Held(page))
    }
}

/// Leads the root to the documentation.
pub(crate) fn redirect_to_docs() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::from_static("/docs"));
    response
}

fn page(html: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(html));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
