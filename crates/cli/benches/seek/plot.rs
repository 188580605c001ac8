//! The growth of moves, as a table and as a drawing.

use std::{fmt::Write, path::Path};

/// One place on a curve: milliseconds, medians.
pub struct Point {
    pub curve: &'static str,
    pub x: u64,
    pub redo: f64,
    pub undo: f64,
}

#[derive(Default)]
pub struct Growth {
    pub points: Vec<Point>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;
/// Powers of ten on each axis: 1 to 1,000,000; 0.1 to 10,000 ms.
const DECADES: [(i32, i32); 2] = [(0, 6), (-1, 4)];
const COLOURS: [&str; 3] = ["#1f6feb", "#b35900", "#2da44e"];

impl Growth {
    /// Prints it, and writes it into the documents where that is asked for.
    pub fn finish(&self) {
        println!("\n{}", self.table());
        if std::env::var_os("BENCH_WRITE").is_some() {
            let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
            std::fs::write(docs.join("seek.csv"), self.table()).expect("docs/seek.csv");
            std::fs::write(docs.join("seek.svg"), self.drawing()).expect("docs/seek.svg");
        }
    }

    fn table(&self) -> String {
        let mut table = String::from("curve,x,redo_ms,undo_ms\n");
        for Point { curve, x, redo, undo } in &self.points {
            writeln!(table, "\"{curve}\",{x},{redo:.2},{undo:.2}").expect("a string");
        }
        table
    }

    /// Both axes are logarithmic, so a straight line at 45 degrees is linear growth and a level one is none.
    fn drawing(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        let [(left, right), (low, high)] = DECADES;
        for decade in left..=right {
            let x = place(10_f64.powi(decade), DECADES[0], MARGIN, WIDTH - 20.0);
            let bottom = HEIGHT - MARGIN;
            writeln!(svg, "<path d=\"M{x:.1} 20V{bottom}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 16.0, 10_u64.pow(decade.unsigned_abs())).expect("a string");
        }
        for decade in low..=high {
            let y = place(10_f64.powi(decade), DECADES[1], HEIGHT - MARGIN, 20.0);
            writeln!(svg, "<path d=\"M{MARGIN} {y:.1}H{}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} ms</text>", WIDTH - 20.0, MARGIN - 4.0, y + 4.0, 10_f64.powi(decade)).expect("a string");
        }
        let mut curves: Vec<&str> = Vec::new();
        for point in &self.points {
            if !curves.contains(&point.curve) {
                curves.push(point.curve);
            }
        }
        for (number, curve) in curves.into_iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let points = || self.points.iter().filter(|point| point.curve == curve);
            for (value, dashes) in [(redo as fn(&Point) -> f64, "0"), (undo, "4 3")] {
                let places: Vec<String> = points().map(|point| at(point.x, value(point))).collect();
                writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\" points=\"{}\"/>", places.join(" ")).expect("a string");
            }
            let y = 34.0 + 15.0 * f64::from(u8::try_from(number).expect("few curves"));
            writeln!(svg, "<text x=\"{}\" y=\"{y}\" fill=\"{colour}\">{curve}</text>", MARGIN + 8.0)
                .expect("a string");
        }
        let note = "redo: whole line, undo: dashes; median, end to end through the API";
        writeln!(svg, "<text x=\"{MARGIN}\" y=\"{}\">{note}</text>\n</svg>", HEIGHT - 14.0)
            .expect("a string");
        svg
    }
}

fn redo(point: &Point) -> f64 {
    point.redo
}

fn undo(point: &Point) -> f64 {
    point.undo
}

#[allow(clippy::cast_precision_loss, reason = "a place on paper")]
fn at(x: u64, y: f64) -> String {
    let x = place(x.max(1) as f64, DECADES[0], MARGIN, WIDTH - 20.0);
    let y = place(y, DECADES[1], HEIGHT - MARGIN, 20.0);
    format!("{x:.1},{y:.1}")
}

fn place(value: f64, (low, high): (i32, i32), from: f64, to: f64) -> f64 {
    let share = (value.log10() - f64::from(low)) / f64::from(high - low);
    from + share * (to - from)
}
