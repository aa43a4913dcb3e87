-- +goose Up

-- A crowded email's row goes on remembering: its newest hashes are in seen, and
-- move to email_event_seen together when the row is full. Before, each event of a
-- crowded email took a row there, and three round trips.
--
-- moved_by is the transaction that moved hashes last; null while there are none
-- in email_event_seen. A statement that sees that transaction sees them all.
-- A value that another server gave, as after a restore, may lie in the future:
-- then the email's events take the long way until hashes move again.
--
-- While the columns change nobody can read or write the table: so this waits for
-- five seconds at the most, with everybody else behind it, and finds crowded emails
-- by their hashes, all of which are read once, rather than by looking through all
-- rows. Where it fails, run it again.
SET LOCAL lock_timeout = '5s';
ALTER TABLE mailtally.email ADD COLUMN moved_by xid8;
UPDATE mailtally.email e
   SET moved_by = pg_current_xact_id()
  FROM (SELECT DISTINCT email_id FROM mailtally.email_event_seen) AS s
 WHERE e.id = s.email_id;

-- A program that looks for a crowded email's hashes in email_event_seen alone
-- would count events again. Without this column it fails instead, and retries
-- until it is replaced.
ALTER TABLE mailtally.email DROP COLUMN crowded;
