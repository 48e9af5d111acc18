"""Version 6 of the schema: digests.

A delivery with a `digest_at` waits for a digest that is due then, and is never sent by itself: it
is no head, and holds up none. Once there is that digest, `digest_id` is the ID of its event, also
in the digest's own delivery. What ends this one ends the others; it is deleted when it is dead, as
the others are the dead letters.
"""

from typing import Final

_EARLIER: Final = """
            SELECT 1
              FROM deliveries AS earlier
             WHERE sink = new.sink
               AND subject = new.subject
               AND status = 'pending'
               AND digest_at IS NULL
               AND id < new.id
"""

_FIRST: Final = """
            SELECT min(id)
              FROM deliveries
             WHERE sink = {row}.sink
               AND subject = {row}.subject
               AND status = 'pending'
               AND digest_at IS NULL
"""

_INSERT_HEAD: Final = f"""
    UPDATE deliveries
       SET is_head = 0
     WHERE new.digest_at IS NULL
       AND id = ({_FIRST.format(row="new")} AND id > new.id);
    UPDATE deliveries
       SET is_head = new.digest_at IS NULL AND NOT EXISTS ({_EARLIER})
     WHERE id = new.id;
"""  # noqa: S608 - constants

VERSION_6: Final = f"""
ALTER TABLE sinks ADD COLUMN digest_window REAL NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN digest_at REAL;
ALTER TABLE deliveries ADD COLUMN digest_id TEXT;
CREATE INDEX deliveries_for_digest ON deliveries (sink, digest_at)
 WHERE status = 'pending' AND digest_at IS NOT NULL AND digest_id IS NULL;
CREATE INDEX deliveries_of_digest ON deliveries (sink, digest_id)
 WHERE status = 'pending' AND digest_id IS NOT NULL;
CREATE INDEX deliveries_alone_by_age ON deliveries (sink, created_at)
 WHERE status = 'pending' AND digest_at IS NULL;

DROP TRIGGER delivery_added;
CREATE TRIGGER delivery_added AFTER INSERT ON deliveries BEGIN
    UPDATE sinks
       SET pending = pending + (new.status = 'pending'), dead = dead + (new.status = 'dead')
     WHERE name = new.sink;
    UPDATE deliveries
       SET is_head = 1
     WHERE id = new.id AND new.digest_at IS NULL AND NOT EXISTS ({_EARLIER});
END;

DROP TRIGGER delivery_ended;
CREATE TRIGGER delivery_ended AFTER UPDATE OF status ON deliveries
  WHEN old.status = 'pending' AND new.status <> 'pending' BEGIN
    UPDATE deliveries
       SET is_head = 1, due = min(due, new.ended_at)
     WHERE NOT is_head AND id = ({_FIRST.format(row="new")});
END;

DROP TRIGGER delivery_restored;
CREATE TRIGGER delivery_restored AFTER UPDATE OF status ON deliveries
  WHEN old.status <> 'pending' AND new.status = 'pending' BEGIN
{_INSERT_HEAD}
END;

CREATE TRIGGER delivery_released AFTER UPDATE OF digest_at ON deliveries
  WHEN old.digest_at IS NOT NULL AND new.digest_at IS NULL
   AND old.status = 'pending' AND new.status = 'pending' BEGIN
{_INSERT_HEAD}
END;

CREATE TRIGGER digest_ended AFTER UPDATE OF status ON deliveries
  WHEN old.status = 'pending' AND new.status <> 'pending' AND new.event_id = new.digest_id BEGIN
    UPDATE deliveries
       SET status = new.status, ended_at = new.ended_at, last_attempt_at = new.last_attempt_at,
           reason = new.reason
     WHERE sink = new.sink AND digest_id = new.digest_id AND status = 'pending';
    DELETE FROM events WHERE id = new.event_id AND new.status = 'dead';
END;

DROP TRIGGER delivery_deleted;
CREATE TRIGGER delivery_deleted AFTER DELETE ON deliveries WHEN old.status <> 'delivered' BEGIN
    UPDATE sinks
       SET pending = pending - (old.status = 'pending'), dead = dead - (old.status = 'dead')
     WHERE name = old.sink;
    UPDATE deliveries SET is_head = 1 WHERE id = ({_FIRST.format(row="old")});
END;
"""  # noqa: S608 - constants
