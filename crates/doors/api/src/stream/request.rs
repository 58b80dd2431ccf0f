//! Reads a request for a stream: `app`, `channels` or `channel`, `token`, and the id of the last event.
//!
//! A refusal ends an `EventSource` for good, and the application does not write the URL alone: libraries add parameters
//! against caching, and their own name for the id of the last event. So unknown parameters are ignored, unless they
//! look like a mistyped one of ours.

use http::request::Parts;
use tidings_model::channel::Position;
use tidings_model::pattern::nearest;
use tidings_model::policy::canonical;
use url::form_urlencoded;

use super::cursor;
use crate::problem::{Code, Problem, shown};
use crate::query::wrong;
use crate::wire::event::{CHANNEL_REMEDY, can_be_a_channel};

const KNOWN: [&str; 5] = ["app", "channels", "channel", "token", "last_event_id"];
/// The longest path and query, in bytes.
const MAX_TARGET: usize = 16 * 1024;
/// The header that a client sends when it reconnects (WHATWG HTML, "Server-sent events").
const LAST_EVENT_ID: &str = "last-event-id";

/// A parsed request for a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The app's public key.
    pub(super) app: Option<String>,
    /// The channels' canonical names, in the order of the request, each once.
    pub(super) channels: Vec<String>,
    /// The client's token.
    pub(super) token: Option<String>,
    /// The client's last position in each channel; empty if it sends no id.
    pub(super) since: Vec<Option<Position>>,
}

/// The app that the query names; the rest of the query is not validated.
pub(super) fn app(parts: &Parts) -> Option<String> {
    let query = parts.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "app").map(|(_, value)| value.into_owned())
}

/// Reads a request for at most `most` channels.
pub(super) fn read(parts: &Parts, most: usize) -> Result<Request, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    if parts.uri.path().len() + query.len() > MAX_TARGET {
        return Err(Problem::new(Code::InvalidRequest, format!("the URL has more than {MAX_TARGET} bytes"))
            .remedy("spread the channels over several streams"));
    }
    let mut request = Request::default();
    let (mut last_event_id, mut added_id) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "channels" => value.split(',').try_for_each(|channel| add(&mut request.channels, "channels", channel))?,
            // For names that contain a comma.
            "channel" => add(&mut request.channels, "channel", &value)?,
            "app" => once(&mut request.app, "app", value.into_owned())?,
            "token" => once(&mut request.token, "token", value.into_owned())?,
            "last_event_id" => once(&mut last_event_id, "last_event_id", value.into_owned())?,
            // Added by a library when it reconnects, so it is newer than the URL's own `last_event_id`.
            name if is_last_event_id(name) => added_id = Some(value.into_owned()),
            name if is_channel_of_array(name) => add(&mut request.channels, "channels", &value)?,
            unknown => {
                if let Some(nearest) = nearest(unknown, KNOWN) {
                    return Err(wrong(&shown(unknown), "there is no such query parameter")
                        .remedy(format!("did you mean {nearest:?}?")));
                }
            }
        }
    }
    if request.channels.is_empty() {
        return Err(wrong("channels", "no channel is named").remedy("name some, as in channels=news,chat:1"));
    }
    if request.channels.len() > most {
        return Err(wrong("channels", format!("{} channels", request.channels.len()))
            .remedy(format!("name at most {most}, and open another stream for others")));
    }
    let mut sorted: Vec<_> = request.channels.iter().collect();
    sorted.sort_unstable();
    if let Some([twice, _]) = sorted.array_windows().find(|[a, b]| a == b) {
        return Err(wrong("channels", format!("{:?} is named twice", shown(twice))).remedy("name each channel once"));
    }
    // The id that a client sends by itself when it reconnects is newer than the one in its URL.
    let header = parts.headers.get(LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let header = header.filter(|text| !text.is_empty()).map(|text| ("Last-Event-ID", text));
    let parameter = |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| ("last_event_id", text));
    if let Some((field, text)) = header.or_else(|| parameter(added_id)).or_else(|| parameter(last_event_id)) {
        request.since = cursor::read(&text, request.channels.len()).ok_or_else(|| {
            wrong(field, "this is not the id of a message of a stream of these channels").remedy(
                "pass an id on unchanged, with the same channels in the same order, or leave it out to begin now",
            )
        })?;
    }
    Ok(request)
}

/// Whether this is a library's name for `last_event_id`: `lastEventId`, `last-event-id`, `Last-Event-ID`, …
fn is_last_event_id(name: &str) -> bool {
    let name = name.strip_prefix("evs_").unwrap_or(name);
    let letters = name.bytes().filter(|byte| !b"-_".contains(byte)).map(|byte| byte.to_ascii_lowercase());
    letters.eq(*b"lasteventid")
}

/// Whether this is an array element as libraries write it: `channels[]`, `channels[0]`.
fn is_channel_of_array(name: &str) -> bool {
    let index = name.strip_prefix("channels[").or_else(|| name.strip_prefix("channel["));
    let index = index.and_then(|index| index.strip_suffix(']'));
    index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
}

fn add(channels: &mut Vec<String>, field: &str, name: &str) -> Result<(), Problem> {
    if !can_be_a_channel(name) {
        return Err(wrong(field, format!("{:?} cannot be the name of a channel", shown(name))).remedy(CHANNEL_REMEDY));
    }
    channels.push(canonical(name).into_owned());
    Ok(())
}

fn once(to: &mut Option<String>, name: &str, value: String) -> Result<(), Problem> {
    match to.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong(name, "given twice").remedy("keep one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(query: &str, last_event_id: Option<&str>) -> Parts {
        let mut request = http::Request::get(format!("/v1/stream?{query}"));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn channels_are_named_in_a_list_or_one_by_one() {
        let named = |query: &str| read(&parts(query, None), 3).map(|request| request.channels);
        assert_eq!(named("channels=a,b:1").unwrap(), ["a", "b:1"]);
        assert_eq!(named("channels=a%2Cb&channel=x%23u%2Cv").unwrap(), ["a", "b", "x#u,v"]);
        assert_eq!(named("channel=%23server-to-user-u").unwrap(), ["#u"]);
        for wrong in [
            "",
            "channels=",
            "channels=a,,b",
            "channels=a,a",
            "channel=%23u&channel=%23server-to-user-u",
            "channels=a,b,c,d",
            "channels=%C3%A4",
            "channels=a&chanels=b",
            "channels=a&app=1&app=2",
        ] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
        assert!(named(&format!("channels=a&token={}", "x".repeat(MAX_TARGET))).is_err());
    }

    // covers: G217
    #[test]
    fn what_libraries_add_is_understood_or_passed_over() {
        let since = |query: &str| {
            let request = read(&parts(query, None), 3).unwrap_or_else(|problem| panic!("{query}: {problem:?}"));
            (request.channels, cursor::write(request.since.iter().map(Option::as_ref)))
        };
        let (a_b, nothing) = (vec!["a".to_owned(), "b".to_owned()], String::new());
        for query in [
            // What keeps caches away.
            "channels=a,b&_=1795255000000",
            "channels=a,b&t=1795255000000",
            "channels=a,b&cb=0.123&nocache=true&timestamp=1",
            // Arrays of jQuery and PHP, of qs, and of Python's requests.
            "channels%5B%5D=a&channels%5B%5D=b",
            "channels[]=a&channels[]=b",
            "channels%5B0%5D=a&channels%5B1%5D=b",
            "channels=a&channels=b",
            "channel[]=a&channel[]=b",
            "channels=a,b&lastEventId=",
        ] {
            assert_eq!(since(query), (a_b.clone(), nothing.clone()), "{query}");
        }
        for name in ["lastEventId", "lastEventID", "last-event-id", "Last-Event-ID", "lasteventid", "evs_last_event_id"]
        {
            let at = "e:2,-".to_owned();
            assert_eq!(since(&format!("channels=a,b&{name}=e:2,-")), (a_b.clone(), at.clone()), "{name}");
            // The URL is as it was when the client was first there.
            assert_eq!(since(&format!("channels=a,b&{name}=e:2,-&last_event_id=e:1,-")), (a_b.clone(), at), "{name}");
        }
    }

    #[test]
    fn where_a_client_was_is_what_it_says_itself_first() {
        let since = |query: &str, id: Option<&str>| {
            read(&parts(query, id), 3).map(|request| cursor::write(request.since.iter().map(Option::as_ref)))
        };
        assert_eq!(since("channels=a,b", None).unwrap(), "");
        assert_eq!(since("channels=a,b", Some("")).unwrap(), "");
        assert_eq!(since("channels=a,b", Some("e:1,-")).unwrap(), "e:1,-");
        assert_eq!(since("channels=a,b&last_event_id=e:2,-", None).unwrap(), "e:2,-");
        assert_eq!(since("channels=a,b&last_event_id=e:2,-", Some("e:3,-")).unwrap(), "e:3,-");
        for wrong in ["e:1", "e:1,-,-", "x", "e:1,é"] {
            assert!(since("channels=a,b", Some(wrong)).is_err(), "{wrong}");
        }
    }
}
