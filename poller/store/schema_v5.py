"""Version 5 of the schema: what would grow with the history is kept, and not counted or searched.

Triggers keep the numbers of pending and dead deliveries of each sink, the number of jobs in each
state, the sums of costs (see `schema_v5_costs`), and `is_head`, which marks the first pending
delivery of each subject of a sink. It means nothing in a delivery that is not pending. The outage
of a sink, and how long a delivery fails, are kept over restarts.
"""

from typing import Final

from poller.store.schema_v5_costs import COSTS

OUTBOX: Final = """
ALTER TABLE sinks ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sinks ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
UPDATE sinks
   SET pending = (SELECT count(*) FROM deliveries WHERE sink = name AND status = 'pending'),
       dead = (SELECT count(*) FROM deliveries WHERE sink = name AND status = 'dead');

ALTER TABLE sinks ADD COLUMN failing_since REAL;
ALTER TABLE sinks ADD COLUMN failing_seconds REAL NOT NULL DEFAULT 0;
ALTER TABLE sinks ADD COLUMN last_failure_at REAL;
ALTER TABLE sinks ADD COLUMN last_failure TEXT;
ALTER TABLE deliveries ADD COLUMN failing_seconds REAL NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN rejections INTEGER NOT NULL DEFAULT 0;

ALTER TABLE deliveries ADD COLUMN is_head INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET is_head = 1 WHERE id IN (SELECT id FROM heads);
DROP VIEW heads;
DROP INDEX deliveries_by_due;
CREATE INDEX deliveries_by_due ON deliveries (sink, due) WHERE status = 'pending' AND is_head;
CREATE INDEX deliveries_by_attempt ON deliveries (sink, last_attempt_at)
 WHERE status = 'pending' AND is_head;
CREATE INDEX deliveries_by_age ON deliveries (sink, created_at) WHERE status = 'pending';
CREATE INDEX deliveries_all_dead ON deliveries (id) WHERE status = 'dead';

CREATE TRIGGER delivery_added AFTER INSERT ON deliveries BEGIN
    UPDATE sinks
       SET pending = pending + (new.status = 'pending'), dead = dead + (new.status = 'dead')
     WHERE name = new.sink;
    UPDATE deliveries
       SET is_head = 1
     WHERE id = new.id
       AND NOT EXISTS (
            SELECT 1
              FROM deliveries AS earlier
             WHERE sink = new.sink
               AND subject = new.subject
               AND status = 'pending'
               AND id < new.id
           );
END;

CREATE TRIGGER delivery_moved AFTER UPDATE OF status ON deliveries
  WHEN old.status <> new.status BEGIN
    UPDATE sinks
       SET pending = pending + (new.status = 'pending') - (old.status = 'pending'),
           dead = dead + (new.status = 'dead') - (old.status = 'dead')
     WHERE name = new.sink;
END;

CREATE TRIGGER delivery_ended AFTER UPDATE OF status ON deliveries
  WHEN old.status = 'pending' AND new.status <> 'pending' BEGIN
    UPDATE deliveries
       SET is_head = 1, due = min(due, new.ended_at)
     WHERE NOT is_head
       AND id = (
            SELECT min(id)
              FROM deliveries
             WHERE sink = new.sink AND subject = new.subject AND status = 'pending'
           );
END;

CREATE TRIGGER delivery_restored AFTER UPDATE OF status ON deliveries
  WHEN old.status <> 'pending' AND new.status = 'pending' BEGIN
    UPDATE deliveries
       SET is_head = 0
     WHERE id = (
            SELECT min(id)
              FROM deliveries
             WHERE sink = new.sink
               AND subject = new.subject
               AND status = 'pending'
               AND id > new.id
           );
    UPDATE deliveries
       SET is_head = NOT EXISTS (
            SELECT 1
              FROM deliveries AS earlier
             WHERE sink = new.sink
               AND subject = new.subject
               AND status = 'pending'
               AND id < new.id
           )
     WHERE id = new.id;
END;

CREATE TRIGGER delivery_deleted AFTER DELETE ON deliveries WHEN old.status <> 'delivered' BEGIN
    UPDATE sinks
       SET pending = pending - (old.status = 'pending'), dead = dead - (old.status = 'dead')
     WHERE name = old.sink;
    UPDATE deliveries
       SET is_head = 1
     WHERE id = (
            SELECT min(id)
              FROM deliveries
             WHERE sink = old.sink AND subject = old.subject AND status = 'pending'
           );
END;

CREATE INDEX events_by_subject ON events (subject, recorded_at);
CREATE INDEX events_by_type ON events (type, recorded_at);

ALTER TABLE jobs ADD COLUMN state TEXT AS (iif(phase = 'missing', 'MISSING', status));
CREATE INDEX jobs_by_change ON jobs (changed_at, job_id);
CREATE INDEX jobs_by_state ON jobs (state, changed_at, job_id);
CREATE INDEX jobs_unfinished ON jobs (deployment) WHERE phase <> 'done';

CREATE VIEW deployments AS
  WITH RECURSIVE found (deployment) AS (
    SELECT min(deployment) FROM jobs
     UNION ALL
    SELECT (SELECT min(deployment) FROM jobs WHERE deployment > found.deployment)
      FROM found
     WHERE deployment IS NOT NULL
  )
SELECT deployment FROM found WHERE deployment IS NOT NULL;

CREATE TABLE job_counts (
    phase  TEXT NOT NULL,
    status TEXT NOT NULL,
    jobs   INTEGER NOT NULL,
    PRIMARY KEY (phase, status)
) STRICT, WITHOUT ROWID;
INSERT INTO job_counts SELECT phase, status, count(*) FROM jobs GROUP BY phase, status;

CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts VALUES (new.phase, new.status, 1)
    ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_moved AFTER UPDATE ON jobs
  WHEN old.phase <> new.phase OR old.status <> new.status BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE phase = old.phase AND status = old.status;
    INSERT INTO job_counts VALUES (new.phase, new.status, 1)
    ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_deleted AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE phase = old.phase AND status = old.status;
END;
"""

VERSION_5: Final = OUTBOX + COSTS
