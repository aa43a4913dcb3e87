-- +goose Up

-- Of an email with very many clicks, link_clicks lists the first 10,000 and says that it is
-- cut. All of a million would exceed what a jsonb can hold, 256 MB, and fail every query
-- that comes upon the email. With the longest links, 10,000 take 95 MB.
--
-- While the view changes nobody can read it, so this waits at most two seconds for those
-- who do. If it fails, run it again.
SET LOCAL lock_timeout = '2s';
CREATE OR REPLACE VIEW mailtally.email_history AS
SELECT e.id,
       e.opened_at,
       e.open_count,
       e.clicked_at,
       e.click_count,
       (SELECT CASE WHEN jsonb_array_length(l.clicks) <= 10000
                    THEN jsonb_build_object('clicks', l.clicks, 'totalClicks', e.click_count)
                    ELSE jsonb_build_object('clicks', l.clicks - 10000, 'totalClicks', e.click_count, 'truncated', true)
               END
          FROM (SELECT coalesce(
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
                  FROM (SELECT link, occurred_at, ip, user_agent, event_id
                          FROM mailtally.email_event
                         WHERE email_id = e.id AND type = 'clicked'
                         ORDER BY occurred_at, event_id
                         -- One more than are listed shows that there are more. That one is
                         -- the element number 10,000, which is removed again above.
                         LIMIT 10001) AS c
               ) AS l(clicks)
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
