//! What tests and fuzz targets share.

mod damage;
mod reseal;
