-- What mailtally's roles may do in PostgreSQL, and no more. Run it in mailtally's database
-- after each mailtally migrate, since a new version may need more, as the schema's owner
-- or a superuser (the first time somebody who may create roles):
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/grants.sql
--
-- It makes two roles that cannot log in. Make members of them what consumers and readers
-- log in as:
--
--     CREATE ROLE tally_consumer LOGIN PASSWORD '…' IN ROLE mailtally_consumer;
--     GRANT mailtally_reader TO your_application;
--
-- mailtally migrate owns what it makes. It needs nothing but a schema, made before it runs
-- for the first time:
--
--     CREATE ROLE tally_owner LOGIN PASSWORD '…';
--     CREATE SCHEMA mailtally AUTHORIZATION tally_owner;
--
-- A producer needs no database.

BEGIN;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['mailtally_consumer', 'mailtally_reader'] LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA mailtally TO mailtally_consumer, mailtally_reader;

-- mailtally consumer. It neither reads nor changes what is in the history, and deletes
-- nothing but the hashes of an email whose row is gone.
GRANT SELECT ON mailtally.schema_version TO mailtally_consumer;
GRANT SELECT, INSERT, UPDATE ON mailtally.email TO mailtally_consumer;
GRANT SELECT, INSERT, DELETE ON mailtally.email_event_seen TO mailtally_consumer;
GRANT INSERT ON mailtally.email_event TO mailtally_consumer;
GRANT EXECUTE ON FUNCTION mailtally.missing_partitions(timestamptz), mailtally.make_partition(timestamptz) TO mailtally_consumer;

-- Applications: the numbers, by a provider's id of the email or by ours.
GRANT SELECT ON mailtally.email_history TO mailtally_reader;
GRANT EXECUTE ON FUNCTION mailtally.email_id(text, text) TO mailtally_reader;

COMMIT;
