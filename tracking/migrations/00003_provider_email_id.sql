-- +goose Up

-- If the provider's id of an email is not a UUID, the row's key is a UUID derived from
-- it, and the row keeps the original id. While the columns change, nobody can read or
-- write the table: as in the migration before, this waits at most five seconds for its
-- lock. If it fails, run it again.
SET LOCAL lock_timeout = '5s';

-- The view first, and with it its tables: that is the order in which readers of the view
-- lock them. Otherwise they and this would wait for each other.
LOCK TABLE mailtally.email_history IN ACCESS EXCLUSIVE MODE;
ALTER TABLE mailtally.email ADD COLUMN provider_email_id text;

-- The id of an email's row, for the provider's id of the email: the same as
-- tracking.EmailID.
CREATE FUNCTION mailtally.email_id(provider text, id text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN id ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' THEN id::uuid
    ELSE (SELECT encode(set_byte(set_byte(d, 6, get_byte(d, 6) & 15 | 128), 8, get_byte(d, 8) & 63 | 128), 'hex')::uuid
            FROM (SELECT substring(sha256(convert_to(provider, 'UTF8') || '\x00' || convert_to(id, 'UTF8')) FROM 1 FOR 16)) AS digest(d))
END;

CREATE OR REPLACE VIEW mailtally.email_history AS
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
       e.last_clicked_at,
       e.provider_email_id
  FROM mailtally.email e;
