-- What processes that share the file tell each other of: the rows that a change has touched. Postgres has NOTIFY.
CREATE TABLE ferrocast_notices (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    notice TEXT NOT NULL
);
