//! Record stores from outside: crashes of the process, damaged files.

mod crash;
mod damage;
mod workload;
