-- +goose Up

-- Two functions make the history's partitions, with their owner's rights: a consumer needs
-- neither to own the tables nor to create any.
--
-- If this fails because of its lock, run it again.
SET LOCAL lock_timeout = '2s';

-- When a month gets its partition, its events move there from the default one. PostgreSQL
-- refuses to delete from a table whose deletes are published, as by a publication FOR ALL
-- TABLES, unless subscribers can be told which row it was. This table has no key.
ALTER TABLE mailtally.email_event_default REPLICA IDENTITY FULL;

-- The months that need a partition and have none: the one before now, that of now and the
-- next two, and those of which the default partition has events. The newest come first;
-- what is left out is found at the next call.
CREATE FUNCTION mailtally.missing_partitions(now timestamptz) RETURNS SETOF timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
    SELECT month
      FROM (SELECT date_trunc('month', $1) + n * interval '1 month' FROM generate_series(-1, 2) AS n
             UNION
            SELECT date_trunc('month', occurred_at) FROM mailtally.email_event_default) AS needed(month)
     WHERE NOT EXISTS (SELECT FROM pg_inherits
                        WHERE inhparent = 'mailtally.email_event'::regclass
                          AND inhrelid = to_regclass('mailtally.email_event_' || to_char(month, 'YYYY_MM')))
     ORDER BY month DESC
     LIMIT 16
$$;

-- Makes the partition of a month, in UTC, and moves the month's events into it. Returns
-- false if it is there already.
--
-- Of the partitions it locks the default one alone: against writers of strays and against
-- readers of the whole history, who wait meanwhile. Behind a reader it gives up after two
-- seconds; that is long enough for PostgreSQL to call off an autovacuum that is in the way.
-- The lock on the history itself hinders nobody but others who do the same, and takes its
-- turn before, as it does with everybody else.
--
-- +goose StatementBegin
CREATE FUNCTION mailtally.make_partition(month timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
SET lock_timeout = '10s'
AS $$
DECLARE
    first timestamptz := date_trunc('month', month);
    after timestamptz := first + interval '1 month';
    name  text        := 'email_event_' || to_char(first, 'YYYY_MM');
BEGIN
    LOCK TABLE ONLY mailtally.email_event IN SHARE UPDATE EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM pg_inherits
                WHERE inhparent = 'mailtally.email_event'::regclass
                  AND inhrelid = to_regclass('mailtally.' || name)) THEN
        RETURN false;
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);
    LOCK TABLE mailtally.email_event_default IN ACCESS EXCLUSIVE MODE;

    -- Fill the table, then attach it: creating it as a partition would lock the whole
    -- history against writers. A DELETE of nothing would be refused as well where a
    -- publication does not allow it, so there is none.
    EXECUTE format('CREATE TABLE mailtally.%I (LIKE mailtally.email_event INCLUDING ALL)', name);
    IF EXISTS (SELECT FROM mailtally.email_event_default WHERE occurred_at >= first AND occurred_at < after) THEN
        EXECUTE format('WITH strays AS (DELETE FROM mailtally.email_event_default
                         WHERE occurred_at >= $1 AND occurred_at < $2 RETURNING *)
                        INSERT INTO mailtally.%I SELECT * FROM strays', name) USING first, after;
    END IF;
    EXECUTE format('ALTER TABLE mailtally.email_event ATTACH PARTITION mailtally.%I FOR VALUES FROM (%L) TO (%L)', name, first, after);
    RETURN true;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION mailtally.missing_partitions(timestamptz), mailtally.make_partition(timestamptz) FROM PUBLIC;
