-- +goose Up

-- The tally: one row per email. It holds everything that an application asks for, in a
-- row of bounded size, so that an update costs the same whether it is the email's first
-- event or its millionth.
CREATE TABLE mailtally.email (
    id                  uuid PRIMARY KEY,

    -- The first time of each kind of event.
    scheduled_at        timestamptz,
    sent_at             timestamptz,
    delivered_at        timestamptz,
    delivery_delayed_at timestamptz,
    opened_at           timestamptz,
    clicked_at          timestamptz,
    bounced_at          timestamptz,
    complained_at       timestamptz,
    failed_at           timestamptz,
    suppressed_at       timestamptz,

    last_opened_at      timestamptz,
    last_clicked_at     timestamptz,
    open_count          integer NOT NULL,
    click_count         integer NOT NULL,

    -- The events counted in this row, as 64-bit hashes of their ids. The conditional
    -- update tests it, and nothing else keeps an event from counting twice. It is bounded. An
    -- email that outgrows it is crowded: its seen is then empty, and all its hashes are
    -- in email_event_seen.
    crowded             boolean NOT NULL,
    seen                bigint[] NOT NULL
)
-- Keep half of each page free, so that the next version of a row fits beside it and no
-- index needs updating (HOT).
WITH (fillfactor = 50);

CREATE TABLE mailtally.email_event_seen (
    email_id   uuid NOT NULL,
    event_hash bigint NOT NULL,
    PRIMARY KEY (email_id, event_hash)
);

-- The history: append only. No count depends on it, so old partitions can be dropped. It
-- has no unique index: that each event is here only once depends on seen, and on nothing
-- but mailtally writing here.
CREATE TABLE mailtally.email_event (
    email_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    type        text NOT NULL,
    event_id    text NOT NULL,
    link        text,
    ip          inet,
    user_agent  text,
    reason      text,
    message     text
) PARTITION BY RANGE (occurred_at);

-- For the one query by email: its clicks.
CREATE INDEX email_event_clicks ON mailtally.email_event (email_id) WHERE type = 'clicked';

-- For events of months that have no partition.
CREATE TABLE mailtally.email_event_default PARTITION OF mailtally.email_event DEFAULT;

-- The interface for applications. link_clicks is computed only when it is selected. Its
-- totalClicks is the tally's, so it stays right when history is dropped.
CREATE VIEW mailtally.email_history AS
SELECT e.id,
       e.opened_at,
       e.open_count,
       e.clicked_at,
       e.click_count,
       jsonb_build_object(
           'clicks', (
               SELECT coalesce(
                          jsonb_agg(
                              jsonb_build_object(
                                  'link', c.link,
                                  -- ISO 8601 in UTC whatever the session's time zone; three digits
                                  -- of a second, or six where the provider gave them.
                                  'timestamp', regexp_replace(to_char(c.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '000$', '') || 'Z',
                                  'ipAddress', host(c.ip),
                                  'userAgent', c.user_agent
                              )
                              ORDER BY c.occurred_at, c.event_id
                          ),
                          '[]'
                      )
                 FROM mailtally.email_event c
                WHERE c.email_id = e.id AND c.type = 'clicked'
           ),
           'totalClicks', e.click_count
       ) AS link_clicks,
       e.scheduled_at,
       e.sent_at,
       e.delivered_at,
       e.delivery_delayed_at,
       e.bounced_at,
       e.complained_at,
       e.failed_at,
       e.suppressed_at,
       e.last_opened_at,
       e.last_clicked_at
  FROM mailtally.email e;
