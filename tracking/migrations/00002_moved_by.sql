-- +goose Up

-- A crowded email's row keeps recording hashes: the newest are in seen, and move to
-- email_event_seen together when the row is full. Before this, each event of a crowded
-- email took a row there, and three round trips.
--
-- moved_by is the last transaction that moved hashes, and null while there are none in
-- email_event_seen. A statement that sees that transaction sees them all. A value from
-- another server, as after a restore, may lie in the future: then the email's events take
-- the slow path until hashes move again.
--
-- While the columns change, nobody can read or write the table. So this waits at most
-- five seconds for its lock, with everyone else queued behind it, and finds crowded
-- emails by their hashes, all of which are read once, rather than by scanning all rows.
-- If it fails, run it again.
SET LOCAL lock_timeout = '5s';
ALTER TABLE mailtally.email ADD COLUMN moved_by xid8;
UPDATE mailtally.email e
   SET moved_by = pg_current_xact_id()
  FROM (SELECT DISTINCT email_id FROM mailtally.email_event_seen) AS s
 WHERE e.id = s.email_id;

-- An older program that looks for a crowded email's hashes only in email_event_seen would
-- count events again. Without this column it fails instead, and retries until it is
-- replaced.
ALTER TABLE mailtally.email DROP COLUMN crowded;
